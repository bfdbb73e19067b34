"""The program around each command: it tells the exit status in the streams, before children let go of them.

E2B's server reports an end only once nobody holds the command's pipes: `sleep 60 & echo hi` would last a minute.

Where each command has process namespaces of its own, nobody else can signal what a command started; there the wrapper
also has an agent, outside of the tree that it serves, which runs what it is sent through a named pipe.
"""

import re
import shlex
import signal
from collections.abc import Sequence
from typing import Final

from tumbler_backends.sandbox.posix.tree import TREE_VARIABLE

__all__ = ["exit_signal", "key_of", "sent_to_agent", "status_signal", "wrapped"]

_AGENT: Final = (
    # The pipe is open before the command starts: no order is lost that comes before the agent reads.
    '[ -z "$_tumbler_pipe" ] || { mkfifo -m 600 "$_tumbler_pipe" && exec 3<>"$_tumbler_pipe" && '
    "{ (trap '' HUP INT QUIT USR1 USR2 PIPE ALRM TERM; "
    'while IFS= read -r order <&3; do eval "$order"; done) </dev/null >/dev/null 2>&1 & }; }; '
)
# What is trapped here is at its default in the command: only the wrapper itself outlives such signals.
_SCRIPT: Final = (
    "_tumbler_key=$1 _tumbler_tree=$2 _tumbler_pipe=$3; shift 3; "
    + _AGENT
    + "trap : HUP INT QUIT USR1 USR2 PIPE ALRM TERM; "
    # The shell's own remarks, such as `Killed`, are not the command's: they go where fd 2 of this shell leads.
    + f'exec 4>&2 2>/dev/null; (export {TREE_VARIABLE}=$_tumbler_tree; exec "$@" 2>&4 3>&- 4>&-); set -- $?; '
    + '[ -z "$_tumbler_pipe" ] || rm -f "$_tumbler_pipe"; '
    + "printf '\\000%s:%d\\000' \"$_tumbler_key\" $1 >&4; printf '\\000%s:%d\\000' \"$_tumbler_key\" $1; exit $1"
)
_ORDER: Final = '[ -p "$1" ] && exec 3<>"$1" && printf "%s\\n" "$2" >&3; exit 0'
_PIPE: Final = "/tmp/.tumbler-{}"
_KEY: Final = re.compile(r"[0-9a-f]{32}")
_FIRST: Final = 3
_STATUS: Final = re.compile(r"signal: (?P<words>[^(]+)")
_NAMES: Final = {(signal.strsignal(number) or "").lower(): number for number in range(1, 32)}


def wrapped(words: Sequence[str], *, key: str, tree: str, agent: bool) -> list[str]:
    """Return the arguments of a `sh` that runs `words` and then writes a mark with `key` into both streams."""
    return ["-c", _SCRIPT, "sh", key, tree, _PIPE.format(tree) if agent else "", *words]


def key_of(arguments: Sequence[str]) -> tuple[str, str] | None:
    """Return key and tree of a wrapper by its arguments; None where they are no wrapper's."""
    if len(arguments) > _FIRST + 2 and arguments[1] == _SCRIPT and _KEY.fullmatch(arguments[_FIRST]):
        return arguments[_FIRST], arguments[_FIRST + 1]
    return None


def sent_to_agent(tree: str, words: Sequence[str]) -> list[str]:
    """Return a command that has the agent of a tree run `words`; it does nothing once the tree has ended."""
    return ["/bin/sh", "-c", _ORDER, "sh", _PIPE.format(tree), shlex.join(words)]


def exit_signal(status: int) -> int | None:
    """Return the signal that a shell's exit status tells of."""
    return status - 128 if 0 < status - 128 < signal.NSIG else None


def status_signal(status: str) -> int | None:
    """Return the signal in the words of an end event, such as `signal: killed`."""
    found = _STATUS.match(status)
    return _NAMES.get(found["words"].strip().lower()) if found else None
