# fish completion of svcctl: ~/.config/fish/completions/svcctl.fish
function __svcctl_complete
    set -l line (commandline --current-process --cut-at-cursor | string collect)
    set -l found (env _SVCCTL_COMPLETE=1 _SVCCTL_LINE="$line" svcctl 2>/dev/null)
    if test (count $found) -gt 0
        printf '%s\n' $found
    else
        __fish_complete_path (commandline --current-token)
    end
end
complete --command svcctl --no-files --arguments '(__svcctl_complete)'
