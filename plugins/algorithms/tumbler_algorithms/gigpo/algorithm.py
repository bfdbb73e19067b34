"""GiGPO as a run sees it; credit and loss are in the modules beside this one. Imports no torch."""

from typing import TYPE_CHECKING

from tumbler.contracts.algorithm import Group
from tumbler_algorithms.gigpo.credit import step_credits
from tumbler_algorithms.gigpo.settings import GiGPOSettings
from tumbler_algorithms.parts.from_start import FromStart

if TYPE_CHECKING:
    from tumbler.contracts.batch import LossOutput, TokenBatch

__all__ = ["GiGPO"]


class GiGPO(FromStart[GiGPOSettings]):
    """Group-in-group policy optimisation: episodes are compared, and so are chunks that began in equal states."""

    def credit(self, group: Group) -> list[list[float]]:
        """Return the advantage of each chunk (4.3)."""
        return step_credits(group.trajectories, self._settings)

    def loss(self, batch: "TokenBatch") -> "LossOutput":
        """Return the clipped token-level loss of one micro-batch."""
        from tumbler_algorithms.gigpo.loss import gigpo_loss

        return gigpo_loss(batch, self._settings)
