"""`wuerstchen completion SHELL`: a script that completes verbs, options, files, workflows, inputs and models.

shtab writes the script from the parser. The functions below add words that depend on what is typed: they ask
`wuerstchen _complete` (see `candidates.py`).
"""

import argparse

import shtab

from .arguments import Parser

_FILES, _FOLDERS = frozenset({"out", "grid", "sheet", "table"}), frozenset({"cache"})
_KINDS = {"workflow": "workflow", "settings": "slot", "sweep": "slot", "model": "model"}
"""Option or argument -> kind of the words that complete it."""

_BASH = r"""
# $1: kind of the words, $2: the word as it is typed, with its quotes
_wuerstchen_complete() {
  local quote= word=${2//\\/} found
  case $2 in [\"\']*) quote=1 word=${2:1} ;; esac
  while IFS= read -r found; do
    [ -n "$quote" ] || { found=$(printf '%q' "$found") found=${found//\\,/,}; }
    printf '%s\n' "$found"
  done < <("${COMP_WORDS[0]}" _complete "$1" "$word" "${COMP_WORDS[@]:1:COMP_CWORD-1}" 2>/dev/null)
}
_wuerstchen_complete_slot() { _wuerstchen_complete slot "$1"; }
_wuerstchen_complete_model() { _wuerstchen_complete model "$1"; }
_wuerstchen_complete_workflow_or_file() {
  _wuerstchen_complete workflow "$1"
  compgen -f -X '!*.json' -- "$1"
  compgen -f -X '!*.png' -- "$1"
  compgen -d -- "$1"
}
"""

_BASH_END = r"""
# bash splits words at "="; this joins NODE.input=value again, and completes the part after the "=".
_wuerstchen() {
  local words=() index=-1 joins= end=$COMP_CWORD number word
  for ((number = 0; number <= COMP_CWORD; number++)); do
    word=${COMP_WORDS[number]}
    if [[ $index -ge 2 && ( $word == "=" || $joins ) ]]; then
      words[index]+=$word
    else
      words[++index]=$word
    fi
    [[ $word == "=" ]] && joins=1 || joins=
  done
  local typed=${words[index]} cut=0
  [[ $index -lt $end ]] && cut=1
  local COMP_WORDS=("${words[@]}") COMP_CWORD=$index
  _shtab_wuerstchen
  [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
  [[ $cut -eq 1 && $typed == *=* ]] && COMPREPLY=("${COMPREPLY[@]#*=}")
  return 0
}
complete -o bashdefault -F _wuerstchen wuerstchen
"""

_ZSH = r"""
# $1: kind of the words; further arguments go to compadd
_wuerstchen_complete() {
  local -a found
  found=("${(@f)$(wuerstchen _complete $1 "${(Q)PREFIX}" "${(@Q)words[1,CURRENT-1]}" 2>/dev/null)}")
  compadd "${@:2}" -a found
}
_wuerstchen_complete_slot() { _wuerstchen_complete slot -S '' }
_wuerstchen_complete_model() { _wuerstchen_complete model }
_wuerstchen_complete_workflow() { _wuerstchen_complete workflow; _files -g '*.(json|png)' }
"""

_FISH = r"""
# $argv: kind of the words
function _wuerstchen_complete
    set -l word (commandline -ct | string trim -l -c '"\'' | string unescape)
    wuerstchen _complete $argv "$word" (commandline -opc) 2>/dev/null
end
"""


def script(parser: Parser, shell: str) -> str:
    """Return the completion script of bash, zsh or fish."""
    _mark(parser)
    written = shtab.complete(parser, shell, preamble={"bash": _BASH, "zsh": _ZSH, "fish": _FISH})  # pyright: ignore[reportArgumentType]
    return written + _BASH_END if shell == "bash" else written


def _mark(parser: Parser) -> None:
    """Mark the options and arguments whose words are not in the parser."""
    for each in (parser, *parser.verbs().values()):
        for action in each._actions:
            kind = _KINDS.get(action.dest)
            if kind is not None:
                _set(action, _dynamic(kind))
            elif action.dest in _FILES:
                _set(action, shtab.FILE)
            elif action.dest in _FOLDERS:
                _set(action, shtab.DIRECTORY)


def _set(action: argparse.Action, words: object) -> None:
    setattr(action, "complete", words)  # noqa: B010 - an attribute that shtab looks for


def _dynamic(kind: str) -> dict[str, str]:
    name = f"_wuerstchen_complete_{kind}"
    files = " (__fish_complete_path (commandline -ct))" if kind == "workflow" else ""
    return {
        "bash": f"{name}_or_file" if kind == "workflow" else name,
        "zsh": name,
        "fish": f"(_wuerstchen_complete {kind}){files}",
    }
