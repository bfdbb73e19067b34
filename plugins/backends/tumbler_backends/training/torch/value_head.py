"""A value head: the return to expect before each token. Knows the policy by its hidden states alone."""

from typing import cast

import torch
from torch import Tensor, nn

__all__ = ["ValueHead"]


class ValueHead(nn.Module):
    """A linear map from the hidden state that predicts a token to what is expected before that token.

    It begins at 0 everywhere, so that it neither needs a seed nor moves the policy before it has
    learnt something. It computes in float32, or in the weights' type if that is wider.
    """

    def __init__(self, size: int, *, dtype: torch.dtype, device: torch.device, detach: bool) -> None:
        super().__init__()
        self._detach = detach
        self.linear = nn.Linear(size, 1, dtype=torch.promote_types(dtype, torch.float32), device=device)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)

    def forward(self, states: Tensor) -> Tensor:
        """Return [S] values of [S, H] hidden states."""
        if self._detach:
            states = states.detach()
        return cast("Tensor", self.linear(states.to(self.linear.weight.dtype))).squeeze(-1)
