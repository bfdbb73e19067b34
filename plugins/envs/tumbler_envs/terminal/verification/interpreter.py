"""What runs the tests: the interpreter that their first line names."""

from tumbler.contracts.sandbox import Sandbox
from tumbler.errors import CapabilityError
from tumbler_envs.terminal.task import TaskFile

__all__ = ["interpreter_of", "require_interpreter"]

_DEFAULT = ["/bin/sh"]
_ENV = "/usr/bin/env"
_SECONDS = 10.0


def interpreter_of(script: TaskFile) -> list[str]:
    """Return the words before the script's own name; so it need not lie where programs may be run."""
    first = script.content.partition(b"\n")[0].decode("utf-8", errors="replace")
    return first.removeprefix("#!").split(maxsplit=1) if first.startswith("#!") and first[2:].split() else _DEFAULT


async def require_interpreter(sandbox: Sandbox, script: TaskFile) -> None:
    """Raise `CapabilityError` where the interpreter is missing, before an agent works for nothing."""
    words = " ".join(interpreter_of(script)).split()
    name = next((word for word in words if word != _ENV and not word.startswith("-")), _DEFAULT[0])
    found = await sandbox.exec(["/bin/sh", "-c", 'command -v "$1"', "look", name], cwd="/", timeout=_SECONDS)
    if found.exit_code != 0:
        raise CapabilityError(
            f"the task's tests need {name}, which this sandbox does not have; name an image that does"
        )
