"""The branches of one episode: which are open, which wait to be folded, what they brought; plain JSON."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from tumbler.contracts.context import State

__all__ = ["Branch", "Branches"]


class Branch(BaseModel):
    """One branch."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    number: int
    task: str
    opened: int
    """The exchange whose reply opened it."""
    answer: str
    """What the opening call was answered."""
    closed: int | None = None
    """The exchange whose reply closed it."""
    result: str = ""

    @property
    def line(self) -> str:
        """Return the result as it is shown once the branch is folded."""
        return f"Result of branch {self.number} ({self.task}):\n{self.result}"


class Branches(BaseModel):
    """The state of `subagent`."""

    model_config = ConfigDict(extra="forbid")

    started: int = 0
    open: list[Branch] = []
    """Innermost last."""
    waiting: list[Branch] = []
    """Closed and not yet folded, none within another."""
    folded: list[Branch] = []
    """Oldest first; those that were part of another are left out."""

    @classmethod
    def load(cls, state: State) -> "Branches":
        """Read them from a state."""
        return cls.model_validate(dict(state))

    def save(self, state: State) -> None:
        """Write them into a state."""
        state.update(self.model_dump(mode="json"))

    def close(self, exchange: int, result: str) -> Branch:
        """Close the innermost branch; those that were opened within it are part of it now."""
        branch = self.open.pop().model_copy(update={"closed": exchange, "result": result})
        self.waiting = [*_outside(self.waiting, branch), branch]
        self.folded = _outside(self.folded, branch)
        return branch

    def fold(self) -> None:
        """Take what waits as folded."""
        self.folded, self.waiting = [*self.folded, *self.waiting], []


def _outside(branches: Sequence[Branch], outer: Branch) -> list[Branch]:
    return [each for each in branches if each.opened < outer.opened]
