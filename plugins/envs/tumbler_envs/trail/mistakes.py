"""What the expert of `trail` does when it errs; knows the folder but not what comes next."""

from random import Random

from tumbler_envs.trail.layout import Trail
from tumbler_envs.trail.words import LABELS, NAMES

__all__ = ["Mistakes"]


class Mistakes:
    """Draws mistakes: commands, each with whether it is relevant. Those that are relevant surely fail."""

    def __init__(self, trail: Trail, rng: Random) -> None:
        """Draw with `rng` from what lies about, and what does not."""
        self._rng = rng
        self._label = trail.label
        self._output = trail.output
        self._texts = sorted(trail.files)
        members = [packed.member for packed in trail.archives.values()]
        taken = {trail.output, *trail.files, *trail.archives, *members}
        self._missing = [name for name in NAMES if name not in taken]

    def instead_of(self, command: str, *, after: str | None) -> tuple[str, bool]:
        """Return a mistake of somebody who should run `command` and last rightly ran `after`."""
        if self._rng.random() < 0.5:
            return self._rng.choice(self._failing(command)), True
        irrelevant = ["ls", f"cat {self._rng.choice(self._texts)}", *self._wrongly(command)]
        if after is not None:
            irrelevant.append(after)
        return self._rng.choice(irrelevant), False

    def _failing(self, command: str) -> list[str]:
        """Return commands that fail whatever was done before."""
        commands = [f"grep {self._label} {self._rng.choice(self._missing)}"]
        program, *words = command.split(" ")
        if program in ("grep", "tar"):
            commands.append(words[-1])
        if program == "tar":
            commands.append(f"tar xvf {self._rng.choice(self._texts)}")
        return commands

    def _wrongly(self, command: str) -> list[str]:
        """Return the command with the wrong label, operator or value."""
        program, *words = command.split(" ")
        if program == "grep":
            return [f"grep {self._rng.choice([label for label in LABELS if label != self._label])} {words[1]}"]
        if program == "expr":
            operator = "-" if words[1] == "+" else "+"
            return [f"expr {words[0]} {operator} {words[2]}"]
        if program == "echo":
            number = self._rng.choice([number for number in range(10, 99) if str(number) != words[0]])
            return [f"echo {number} > {self._output}"]
        return []
