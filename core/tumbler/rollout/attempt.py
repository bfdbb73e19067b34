"""What is known of one episode while it runs, and what a trajectory says of it besides the record; runs nothing."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.values import JSON
from tumbler.errors import ContextPlanError
from tumbler.rollout.context import StrategyPipeline
from tumbler.rollout.episode import PhaseClock
from tumbler.rollout.recorder import Recorder

if TYPE_CHECKING:
    from tumbler.rollout.runner import NamedEnvironment

__all__ = ["Attempt", "reason_of"]


@dataclass
class Attempt:
    """One episode while it runs."""

    request: RolloutRequest
    environment: "NamedEnvironment"
    recorder: Recorder
    clock: PhaseClock
    isolation: str | None = None
    network: str | None = None
    sandbox: Sandbox | None = None
    context: StrategyPipeline | None = None
    first_observation: str = ""
    restored_by: str = "replay"

    def details(self) -> dict[str, JSON]:
        """Return what a reader of the trajectory wants to see first."""
        shown: dict[str, JSON] = {
            "instruction": self.request.task.instruction,
            "first_observation": self.first_observation,
        }
        if self.context is not None and self.context.refusals:
            shown["context_refusals"] = [
                f"{each.strategy}: {each.check}: {each.reason}" for each in self.context.refusals
            ]
        return shown if self.request.anchor is None else {**shown, "anchor_restored_by": self.restored_by}


def reason_of(error: BaseException) -> str:
    """Return why an episode failed; of a plan that broke a rule, which rule."""
    check = f" ({error.check})" if isinstance(error, ContextPlanError) and error.check else ""
    return f"{type(error).__name__}{check}: {error}"
