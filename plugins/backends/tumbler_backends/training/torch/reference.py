"""The weights with which a phase began: kept from when an algorithm first asks for them, in checkpoints too."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from tumbler.errors import RunError

__all__ = ["Reference"]

Weights = Mapping[str, Tensor]


class Reference:
    """One phase's reference policy. A phase whose algorithm never asks for it costs no memory."""

    def __init__(self, version: int) -> None:
        self._version = version
        self._weights: Weights | None = None

    def weights(self, current: int, *, kept: Mapping[int, Weights], copy: Callable[[], Weights]) -> Weights | None:
        """Return the weights with which the phase began, and keep them; None if they are the current ones.

        Raise `RunError` if they have moved since and nobody kept them.

        Args:
            current: the version of the current weights.
            kept: weights by version that somebody else keeps and nobody changes.
            copy: copies the current weights.
        """
        if self._weights is None:
            if self._version in kept:
                self._weights = kept[self._version]
            elif self._version == current:
                self._weights = copy()
            else:
                raise RunError(
                    f"the algorithm asks for the weights of policy version {self._version}, with which this phase "
                    f"began, but only after they have moved to version {current}; an algorithm with "
                    "UpdateRule(reference=True) must take the phase's first step, or begin a new phase"
                )
        return None if self._version == current else self._weights

    def state(self, current: int, *, full: Callable[[Weights], Weights]) -> dict[str, Any]:
        """Return what `restore` needs; the current weights are in the checkpoint as they are.

        Args:
            current: the version of the current weights.
            full: returns the whole of weights as they are kept here.
        """
        known = self._weights is not None and self._version != current
        return {"version": self._version, "weights": dict(full(self._weights or {})) if known else None}

    def restore(self, state: Mapping[str, Any], *, share: Callable[[Weights], Weights]) -> None:
        """Go on from what `state` returned; `share` undoes what `full` did."""
        self._version = state["version"]
        self._weights = None if state["weights"] is None else share(state["weights"])
