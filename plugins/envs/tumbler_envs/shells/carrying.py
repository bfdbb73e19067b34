"""Reads the state of a running bash and writes the commands that bring a fresh one there; knows no sandbox.

What is carried over: the folder, variables, functions, aliases, options, the umask and the last exit status.
What is not: processes, open files, traps, and names that begin with two underscores, which sessions use for
themselves.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from tumbler.contracts.values import JSON
from tumbler.errors import CapabilityError, ContractError

__all__ = ["Carried", "capture_command", "parse_capture", "restore_commands"]

_OWN_VARIABLES = re.compile(
    r"_|__.*|BASH.*|COLUMNS|COMP_.*|DIRSTACK|EPOCH.*|EUID|FUNCNAME|GROUPS|HIST.*|HOSTNAME|LINENO|LINES|PIPESTATUS|PPID"
    r"|PWD|RANDOM|SECONDS|SHELLOPTS|SHLVL|SRANDOM|UID"
)
"""Those that bash keeps itself, and that differ from shell to shell or follow from the rest."""

_VARIABLE = re.compile(r"^declare -\S+ (\w+)", re.MULTILINE)
_FUNCTION = re.compile(r"^(\S+) \(\) *$", re.MULTILINE)
_DIGEST = re.compile(r"([0-9a-f]{64}) +-\n")

# Names with their values come whole: a subshell for each would take longer than all else together.
_CAPTURE = r"""__shell_status=$?
builtin printf 'status\0%d\0folder\0%s\0umask\0' "$__shell_status" "$PWD"; builtin umask
builtin printf '\0jobs\0'; builtin jobs -rp; builtin jobs -sp
builtin printf '\0options\0'; builtin set +o; builtin shopt -p || builtin :
builtin printf '\0aliases\0'; builtin alias -p
builtin printf '\0exported\0'; builtin declare -Fx || builtin :
builtin printf '\0functions\0'; builtin declare -f || builtin :
builtin printf '\0variables\0'; builtin declare -p || builtin :
builtin printf '\0files\0'
{files}builtin printf '\0end\0'
[[ $- == *e* || $__shell_status == 0 ]] || ( builtin exit "$__shell_status" )
"""

# Times are left out: they say when something was done, which differs from replay to replay.
_FILES = r"""( builtin set -o pipefail; builtin cd -P -- {folder} && builtin command -p tar --sort=name --mtime=@0 \
--numeric-owner --format=gnu -cf - . | builtin command -p sha256sum ) 2>/dev/null || builtin printf failed
"""


@dataclass(frozen=True, kw_only=True)
class Carried:
    """The state of one shell; all texts are in bash's own words."""

    status: str
    folder: str
    umask: str
    options: str
    aliases: str
    exported: str
    """Which functions are exported."""
    functions: Mapping[str, str]
    variables: Mapping[str, str]

    def to_json(self) -> dict[str, JSON]:
        """Return a JSON object; `from_json` gives an equal state back."""
        return {**vars(self), "functions": dict(self.functions), "variables": dict(self.variables)}

    @classmethod
    def from_json(cls, state: JSON) -> "Carried":
        """Return the state that `to_json` wrote; raise `ContractError` if it did not."""
        try:
            return cls(**state)  # type: ignore[arg-type]  # whatever does not fit is caught here
        except TypeError as error:
            raise ContractError(f"this is no state of a shell: {error}") from error


def capture_command(folder: str | None = None) -> str:
    """Return a command that prints the state, with a digest of the files in `folder`, and leaves it as it was."""
    return _CAPTURE.replace("{files}", "" if folder is None else _FILES.replace("{folder}", shlex.quote(folder)))


def parse_capture(output: bytes) -> tuple[Carried, str]:
    """Return the state that `capture_command` printed, and the files' digest, empty if none was asked for.

    Raises `CapabilityError` if the state cannot be carried over.
    """
    fields = output.decode("utf-8", errors="surrogateescape").split("\0")
    if fields[-2:] != ["end", ""]:
        raise CapabilityError("the shell's state cannot be read: it is too large, or the shell is no working bash")
    found = dict(zip(fields[:-2:2], fields[1:-2:2], strict=True))
    if found.pop("jobs").strip():
        raise CapabilityError("a background process is running in the shell, and processes cannot be copied")
    files = _files_digest(found.pop("files"))
    functions = {name: text for name, text in _named(_FUNCTION, found.pop("functions")) if not name.startswith("__")}
    variables = dict(_named(_VARIABLE, found.pop("variables")))
    kept = {name: text for name, text in variables.items() if not _OWN_VARIABLES.fullmatch(name)}
    return Carried(functions=functions, variables=kept, **found), files


def restore_commands(wanted: Carried, fresh: Carried) -> str:
    """Return the commands that bring a shell from the state `fresh` to the state `wanted`."""
    return "\n".join(_commands(wanted, fresh))


def _files_digest(printed: str) -> str:
    match = _DIGEST.fullmatch(printed)
    if printed and match is None:
        raise CapabilityError("the files cannot be compared: tar or sha256sum could not read them all")
    return match[1] if match else ""


def _named(beginning: re.Pattern[str], text: str) -> Iterator[tuple[str, str]]:
    """Cut a listing where an entry begins; yield each entry's name and text."""
    starts = list(beginning.finditer(text))
    for index, match in enumerate(starts, 1):
        yield match[1], text[match.start() : starts[index].start() if index < len(starts) else len(text)]


def _commands(wanted: Carried, fresh: Carried) -> Iterator[str]:
    yield f"builtin umask {wanted.umask.strip()}"
    if wanted.folder != fresh.folder:
        yield f"builtin cd -- {shlex.quote(wanted.folder)}\nbuiltin unset -v OLDPWD"
        yield wanted.variables.get("OLDPWD", "")
    for name in sorted(fresh.functions.keys() - wanted.functions.keys()):
        yield f"builtin unset -f -- {shlex.quote(name)}"
    yield from (text for name, text in wanted.functions.items() if fresh.functions.get(name) != text)
    yield wanted.exported
    for name in sorted(fresh.variables.keys() | wanted.variables.keys()):
        if fresh.variables.get(name) != wanted.variables.get(name):
            yield f"builtin unset -v {name}"
            yield wanted.variables.get(name, "")
    if wanted.aliases != fresh.aliases:
        yield f"builtin unalias -a\n{wanted.aliases}"
    known = set(fresh.options.splitlines())
    yield from (line for line in wanted.options.splitlines() if line not in known)
    # With errexit a failure would have ended the shell, so its last status was 0.
    yield f"[[ $- == *e* || {wanted.status} == 0 ]] || ( builtin exit {wanted.status} )"
