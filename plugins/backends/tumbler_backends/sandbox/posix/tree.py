"""Find, signal and kill all processes of one start, where they share a pid namespace with others.

Each start has a variable of its own in its environment, which children inherit; whoever drops it is found as a child
of one that has it. Only what dropped it and also lost its parents is out of reach: it ends with the sandbox.
"""

from typing import Final

__all__ = ["TREE_VARIABLE", "kill_words", "signal_words"]

TREE_VARIABLE: Final = "TUMBLER_TREE"
"""The variable that marks a start; its value is random."""

_FIND: Final = (
    'tree() { marked=$(grep -lsF -e "$variable" /proc/[0-9]*/environ | tr "\\n" " "); '
    'cat /proc/[0-9]*/stat 2>/dev/null | awk -v marked="$marked" \''
    'BEGIN { count = split(marked, files, " "); '
    'for (i = 1; i <= count; i++) { split(files[i], part, "/"); found[part[3]] = 1 } } '
    '{ pid = $1; sub(/^.*\\) /, ""); if ($1 != "Z" && $1 != "X") parent[pid] = $2 } '
    "END { do { more = 0; for (pid in parent) if (!(pid in found) && (parent[pid] in found)) "
    "{ found[pid] = 1; more = 1 } } while (more); "
    'for (pid in found) if (pid in parent) printf "%s ", pid }\'; }; '
)
_SIGNAL: Final = "variable=$1; " + _FIND + 'found=$(tree); [ -z "$found" ] || kill -s "$2" $found 2>/dev/null; exit 0'
_KILL: Final = (
    "variable=$1; " + _FIND + 'found=$(tree); [ -z "$found" ] || kill -s TERM $found 2>/dev/null; tries=0; '
    'while [ "$tries" -lt "$2" ] && [ -n "$(tree)" ]; do sleep 0.1; tries=$((tries + 1)); done; tries=0; '
    # What is stopped cannot fork before it is killed.
    'while found=$(tree) && [ -n "$found" ] && [ "$tries" -lt 100 ]; do kill -s STOP $found 2>/dev/null; '
    "kill -s KILL $found 2>/dev/null; tries=$((tries + 1)); sleep 0.02; done; exit 0"
)


def signal_words(value: str, number: int) -> list[str]:
    """Return a command that sends a signal to all processes of a start."""
    return ["sh", "-c", _SIGNAL, "sh", f"{TREE_VARIABLE}={value}", str(number)]


def kill_words(value: str, grace: float) -> list[str]:
    """Return a command that ends all processes of a start: SIGTERM, `grace` seconds, SIGKILL."""
    return ["sh", "-c", _KILL, "sh", f"{TREE_VARIABLE}={value}", str(round(grace * 10))]
