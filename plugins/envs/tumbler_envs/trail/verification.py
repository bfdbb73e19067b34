"""Judges what the agent wrote down; the answer itself never enters the sandbox.

Where the sandbox's files can be looked at from outside, nothing has to run in it. Elsewhere the script runs as a
process of its own, by absolute path, in bash's privileged mode (no start-up file, no exported function) and calls no
program: aliases, `PATH` and replaced programs cannot touch it. It tells what lies at the output's place, and the
comparison happens on this side.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, cast

from tumbler.contracts.environment import Verdict
from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.sandbox_files import EntryKind, FilesSandbox
from tumbler.errors import SandboxError
from tumbler_envs.trail.layout import WORKDIR, Trail
from tumbler_envs.trail.settings import TrailSettings

__all__ = ["Found", "judge", "look"]

FoundKind: TypeAlias = Literal["file", "missing", "link", "special", "long", "moved", "timeout", "failed"]

_LONGEST = 256
"""Bytes of a file that are too many."""
_READABLE = 0o400
_NO_FILE: Mapping[EntryKind, FoundKind] = {"symlink": "link", "directory": "special", "other": "special"}

_SCRIPT = f"""
if ! builtin cd -P -- "$1" || [ "$PWD" != "$1" ]; then builtin printf moved
elif [ -L "$2" ]; then builtin printf link
elif [ ! -e "$2" ]; then builtin printf missing
elif [ ! -f "$2" ]; then builtin printf special
elif IFS= builtin read -r -d '' -n {_LONGEST} text < "$2"; then builtin printf long
else builtin printf 'file\\n%s' "$text"
fi
"""
"""`read` succeeds only where the text is too long or holds a NUL."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What lies where the answer belongs."""

    kind: FoundKind
    text: str = ""


class _LookedAt(Sandbox, FilesSandbox, Protocol):
    """A sandbox whose files can be looked at from outside."""


async def look(sandbox: Sandbox, name: str) -> Found:
    """Return what lies at the name in the sandbox; raise `SandboxError` if the sandbox cannot look."""
    if isinstance(sandbox, FilesSandbox):
        return await _look_from_outside(cast("_LookedAt", sandbox), f"{WORKDIR}/{name}")
    return await _look_from_inside(sandbox, name)


async def _look_from_outside(sandbox: _LookedAt, path: str) -> Found:
    try:
        if (await sandbox.stat(WORKDIR)).kind != "directory":
            return Found(kind="moved")
        entry = await sandbox.stat(path)
        if entry.kind != "file":
            return Found(kind=_NO_FILE[entry.kind])
        if not entry.mode & _READABLE:
            return Found(kind="file")
        data = await sandbox.read(path) if entry.size < _LONGEST else b"\0"
    except FileNotFoundError:
        return Found(kind="missing")
    return Found(kind="long") if b"\0" in data else Found(kind="file", text=data.decode("utf-8", errors="replace"))


async def _look_from_inside(sandbox: Sandbox, name: str) -> Found:
    result = await sandbox.exec(
        ["/bin/bash", "-p", "-c", _SCRIPT, "verify", WORKDIR, name], cwd="/", timeout=10.0, max_output=1 << 12
    )
    if result.timed_out:
        return Found(kind="timeout")
    if result.exit_code in (126, 127):
        raise SandboxError(
            f"the answer cannot be verified: /bin/bash does not run in this sandbox (exit {result.exit_code}); "
            "use an image that holds bash, tar and the usual core programs"
        )
    if result.exit_code != 0:
        return Found(kind="failed")
    kind, _, text = result.stdout.decode("utf-8", errors="replace").partition("\n")
    return Found(kind=cast("FoundKind", kind), text=text)


def judge(found: Found, trail: Trail, settings: TrailSettings) -> Verdict:
    """Return the verdict: success only for a regular file that holds the answer and nothing else."""
    success = found.kind == "file" and found.text.strip() == trail.answer
    return Verdict(
        reward=settings.success_reward if success else settings.failure_reward,
        success=success,
        details={"found": found.kind, "written": found.text, "expected": trail.answer, "steps": len(trail.kinds)},
    )
