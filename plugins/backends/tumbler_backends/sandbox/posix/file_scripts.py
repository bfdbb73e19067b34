"""Shell scripts that look at and change files inside a sandbox, one for each operation; starts nothing.

Each is given absolute paths, and tells what is wrong by its exit code: `FAILURE` plus the error's number on Linux.
"""

from typing import Final

__all__ = ["COMMIT", "FAILURE", "LIST", "MKDIR", "MOVE", "READ", "RECEIVE", "REMOVE", "STAT"]

FAILURE: Final = 64

_COMMON: Final = (
    'fail() { exit $((64 + $1)); }; there() { [ -e "$1" ] || [ -L "$1" ]; }; '
    # Say why nothing is at a path: a file, or nothing, stands where a folder should be.
    'lost() { up=${1%/*}; while [ -n "$up" ] && ! there "$up"; do up=${up%/*}; done; up=${up:-/}; '
    '[ -d "$up" ] || [ -L "$up" ] || fail 20; [ ! -d "$up" ] || [ -x "$up" ] || fail 13; fail 2; }; '
    'parent() { up=${1%/*}; up=${up:-/}; mkdir -p -- "$up" 2>/dev/null || lost "$up/."; '
    '[ -d "$up" ] || fail 20; [ -w "$up" ] || fail 13; }; '
)
_ENTRY: Final = "'%y\\0%s\\0%m\\0%T@\\0%u\\0%g\\0%l\\0%p\\0'"

READ: Final = (
    _COMMON + '[ ! -d "$1" ] || fail 21; there "$1" || lost "$1"; [ -e "$1" ] || lost "$1/"; [ -f "$1" ] || fail 22; '
    '[ -r "$1" ] || fail 13; tail -c "+$2" -- "$1" | head -c "$3"'
)
"""Print up to $3 bytes of the file $1, from byte $2 on, where 1 is the first."""
RECEIVE: Final = (
    _COMMON + '[ ! -d "$1" ] || [ -L "$1" ] || fail 21; parent "$1"; '
    '(umask 077; cat >"$2") && chmod "$3" "$2" || { rm -f -- "$2"; fail 28; }'
)
"""Take stdin into the file $2, with mode $3, if the file $1 could be made."""
COMMIT: Final = _COMMON + '[ "$(wc -c <"$2")" -eq "$3" ] && mv -fT -- "$2" "$1" || { rm -f -- "$2"; fail 5; }'
"""Put the file $2, if it has $3 bytes, in the place of the file $1."""
LIST: Final = (
    _COMMON + '[ -d "$1" ] || { there "$1" || lost "$1"; [ -e "$1" ] || fail 2; fail 20; }; '
    '[ -r "$1" ] && [ -x "$1" ] || fail 13; '
    f'find "${{1%/}}/" -mindepth 1 -maxdepth "$2" -printf {_ENTRY}'
)
"""Print the fields of each entry below the folder $1, $2 levels down."""
STAT: Final = _COMMON + f'there "$1" || lost "$1"; find "$1" -maxdepth 0 -printf {_ENTRY}'
"""Print the fields of one entry."""
MKDIR: Final = (
    _COMMON + 'if there "$1"; then [ -d "$1" ] && [ "$3" = yes ] && exit 0; fail 17; fi; '
    'if [ "$2" = yes ]; then parent "$1"; else [ -d "${1%/*}/" ] || lost "$1"; fi; '
    'mkdir -- "$1" 2>/dev/null || { there "$1" && fail 17; fail 13; }'
)
"""Make the folder $1; $2 tells whether to make its parents, $3 whether it may be there."""
MOVE: Final = (
    _COMMON + 'there "$1" || lost "$1"; parent "$2"; '
    'if [ -d "$1" ] && [ ! -L "$1" ]; then [ -d "$2" ] || ! there "$2" || fail 20; '
    'else [ ! -d "$2" ] || [ -L "$2" ] || fail 21; fi; '
    'mv -fT -- "$1" "$2" 2>/dev/null && exit; [ -d "$2" ] && [ -n "$(ls -A -- "$2")" ] && fail 39; '
    'case $2/ in "$1"/*) fail 22;; esac; fail 13'
)
"""Rename $1 to $2."""
REMOVE: Final = (
    _COMMON + 'there "$1" || lost "$1"; if [ -L "$1" ] || [ ! -d "$1" ]; then rm -f -- "$1"; '
    'elif [ "$2" = yes ]; then rm -rf -- "$1" 2>/dev/null || { chmod -R u+rwX -- "$1"; rm -rf -- "$1"; }; '
    'else rmdir -- "$1" 2>/dev/null || { [ -n "$(ls -A -- "$1")" ] && fail 39; }; fi; '
    '! there "$1" || fail 13'
)
"""Remove $1; $2 tells whether a folder may have something in it."""
