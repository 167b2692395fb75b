"""What a shell has to read once. Each script asks ``shiplap completion SHELL --line LINE``, and shows the answer.

An answer is a line for each word: its kind (``plain``, ``file`` or ``dir``), a tab, the word, a tab, what it is. Where
a file or a directory fits, the shell looks for it itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_BASH: Final = r"""# Completion of shiplap for bash: source <(shiplap completion bash)
_shiplap_complete() {
    local kind word rest
    COMPREPLY=()
    while IFS=$'\t' read -r kind word rest; do
        case $kind in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                COMPREPLY+=("$word")
                [[ $word == *[:=,] ]] && compopt -o nospace ;;
        esac
    done < <("$1" completion bash --line "${COMP_LINE:0:COMP_POINT}" --breaks "$COMP_WORDBREAKS" 2>/dev/null)
}
complete -o nosort -F _shiplap_complete shiplap
"""

_ZSH: Final = r"""#compdef shiplap
# Completion of shiplap for zsh: source <(shiplap completion zsh), after compinit.
# Or write it to a file _shiplap in a directory of $fpath.
_shiplap() {
    local kind word rest
    local -a found open
    while IFS=$'\t' read -r kind word rest; do
        case $kind in
            dir) _path_files -/ ;;
            file) _path_files ;;
            plain)
                if [[ $word == *[:=,] ]]; then
                    open+=("${word//:/\\:}${rest:+:$rest}")
                else
                    found+=("${word//:/\\:}${rest:+:$rest}")
                fi ;;
        esac
    done < <("${(Q)words[1]}" completion zsh --line "${(j: :)words[1,CURRENT-1]} $PREFIX" 2>/dev/null)
    (( $#found )) && _describe -V shiplap found
    (( $#open )) && _describe -V shiplap open -S ''
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    _shiplap "$@"
else
    compdef _shiplap shiplap
fi
"""

_FISH: Final = r"""# Completion of shiplap for fish: shiplap completion fish > ~/.config/fish/completions/shiplap.fish
function __shiplap_complete
    set -l line (commandline -cp)
    for found in (shiplap completion fish --line "$line" 2>/dev/null)
        set -l part (string split \t -- $found)
        switch $part[1]
            case dir
                __fish_complete_directories (commandline -ct)
            case file
                __fish_complete_path (commandline -ct)
            case plain
                printf '%s\t%s\n' $part[2] $part[3]
        end
    end
end
complete --command shiplap --no-files --arguments '(__shiplap_complete)'
"""

SCRIPTS: Final[Mapping[str, str]] = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}
"""By the shell's name."""
