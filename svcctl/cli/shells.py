"""The completion scripts. Each hands the line so far to svcctl and offers what it answers, else files."""

BASH = r"""# bash completion of svcctl: ~/.local/share/bash-completion/completions/svcctl
_svcctl() {
    local line=${COMP_LINE:0:COMP_POINT} word before reply
    word=${line##*[[:space:]]}
    # readline cuts words at @ and =, and replaces only what follows the last of them
    before=${word%"${word##*[${COMP_WORDBREAKS}]}"}
    COMPREPLY=()
    while IFS=$'\t' read -r reply _; do
        COMPREPLY+=("${reply#"$before"}")
    done < <(_SVCCTL_COMPLETE=1 _SVCCTL_LINE=$line "$1" 2>/dev/null)
}
complete -o default -F _svcctl svcctl
"""

ZSH = r"""#compdef svcctl
# zsh completion of svcctl: _svcctl in a folder of $fpath
_svcctl() {
    local -a found
    local value help
    while IFS=$'\t' read -r value help; do
        found+=("${value//:/\\:}${help:+:$help}")
    done < <(_SVCCTL_COMPLETE=1 _SVCCTL_LINE="${(j: :)words[1,CURRENT]}" "${words[1]}" 2>/dev/null)
    if (( $#found )); then
        _describe svcctl found
    else
        _files
    fi
}
if [[ $funcstack[1] == _svcctl ]]; then
    _svcctl "$@"
else
    compdef _svcctl svcctl
fi
"""

FISH = r"""# fish completion of svcctl: ~/.config/fish/completions/svcctl.fish
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
"""

SCRIPTS = {"bash": BASH, "zsh": ZSH, "fish": FISH}
