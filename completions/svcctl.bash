# bash completion of svcctl: ~/.local/share/bash-completion/completions/svcctl
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
