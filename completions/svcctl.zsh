#compdef svcctl
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
