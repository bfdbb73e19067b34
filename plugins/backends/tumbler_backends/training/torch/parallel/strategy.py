"""What a trainer asks of the way in which weights lie in processes, and the plainest answer: all of them here."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Protocol, TypeAlias, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from tumbler_backends.training.torch.parallel.team import Team
from tumbler_backends.training.torch.policy import Policy, Scores

__all__ = ["Forward", "Strategy", "Whole", "add_up_gradients", "clip_to"]

Forward: TypeAlias = Callable[..., Scores]


class Strategy(Protocol):
    """Knows where the policy's weights are, and how gradients of several trainers become one.

    Weights are taken and given in two forms: as they lie here, which is what `held` returns, and `full`.
    """

    team: Team
    device: torch.device

    @property
    def in_step(self) -> bool:
        """Return whether all trainers must make every pass together."""
        ...

    def prepare(self, policy: Policy) -> Forward:
        """Move the policy to its device, and return what to call in its place."""
        ...

    def using(self, weights: Mapping[str, Tensor]) -> AbstractContextManager[Forward]:
        """Return what to call in the policy's place for as long as these weights, as held, are to be used."""
        ...

    def backward(self, total: Tensor) -> None:
        """Add the gradient of a loss to the parameters'; it must be of the last scores."""
        ...

    def passes(self, own: int) -> int:
        """Return how many passes this trainer must make that has `own` micro-batches; asked before the first."""
        ...

    def idle(self, passes: int, *, gradient: bool) -> None:
        """Make passes that teach nothing, beside those of trainers that have more to compute."""
        ...

    def add_up(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up the gradients of all trainers; each then has those of its part of the weights."""
        ...

    def clip(self, parameters: Sequence[nn.Parameter], bound: float) -> float:
        """Scale the gradient down to a norm and return what its norm over all weights was, finite or not."""
        ...

    def held(self, tensor: Tensor) -> Tensor:
        """Return what of a parameter lies here, not copied."""
        ...

    def full(self, held: Tensor, like: Tensor) -> Tensor:
        """Return the whole of what is held in the manner of parameter `like`; all trainers must ask."""
        ...

    def part(self, full: Tensor, like: Tensor) -> Tensor:
        """Return a whole tensor in the manner of parameter `like`, and as it is unless their shapes are equal."""
        ...


class Whole:
    """All weights are in every trainer; `ddp` if there are several.

    Each computes its share of a batch, and their gradients are added up once in an optimizer step: a
    trainer may make any number of passes, none included.
    """

    in_step = False

    def __init__(self, team: Team, accelerator: Accelerator) -> None:
        self.team = team
        self.device: torch.device = accelerator.device
        self._accelerator = accelerator
        self._policy: Policy | None = None

    def prepare(self, policy: Policy) -> Forward:
        """Move the policy to its device and put mixed precision on it."""
        self._policy = policy
        # Not in training mode, whose wrapper wants equally many passes of all trainers, and every weight in each.
        return cast("Forward", self._accelerator.prepare_model(policy, evaluation_mode=True))

    @contextmanager
    def using(self, weights: Mapping[str, Tensor]) -> Iterator[Forward]:
        """Hand out the policy as a function of other weights."""
        assert self._policy is not None, "prepare comes first"
        yield partial(self._policy.score_with, weights)

    def backward(self, total: Tensor) -> None:
        """Add the gradient of the loss, if it has one."""
        if total.requires_grad:
            self._accelerator.backward(total)

    def passes(self, own: int) -> int:
        """Return its own: nobody waits for a pass."""
        return own

    def idle(self, passes: int, *, gradient: bool) -> None:
        """Do nothing: there are none."""

    def add_up(self, parameters: Sequence[nn.Parameter]) -> None:
        """Add up what the trainers have."""
        if self.team.size > 1:
            add_up_gradients(self.team, parameters)

    def clip(self, parameters: Sequence[nn.Parameter], bound: float) -> float:
        """Clip as Accelerate does; all trainers have the same gradient."""
        return float(cast("Tensor", self._accelerator.clip_grad_norm_(parameters, bound)))

    def held(self, tensor: Tensor) -> Tensor:
        """Return the tensor: all of it lies here."""
        return tensor

    def full(self, held: Tensor, like: Tensor) -> Tensor:
        """Return what is held, which is the whole."""
        return held

    def part(self, full: Tensor, like: Tensor) -> Tensor:
        """Return the whole."""
        return full


BUCKET = 1 << 25
"""Bytes of gradients that are added up in one message: enough of them that the latency of a message is lost in it."""


def add_up_gradients(team: Team, parameters: Sequence[nn.Parameter]) -> None:
    """Replace each gradient by the sum of all trainers', zero where one has none, in few messages.

    What has a gradient in no trainer stays without: an optimizer leaves it alone.
    """
    counts = team.total([float(each.grad is not None) for each in parameters])
    for bucket in _buckets([each for each, count in zip(parameters, counts, strict=True) if count]):
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in bucket]
        flat = torch.cat([each.flatten() for each in gradients])
        team.add_up(flat)
        for parameter, summed in zip(bucket, flat.split([each.numel() for each in bucket]), strict=True):
            parameter.grad = summed.view_as(parameter)


def _buckets(parameters: Sequence[nn.Parameter]) -> Iterator[list[nn.Parameter]]:
    """Yield the parameters in their order, of one type and about `BUCKET` bytes at a time."""
    bucket: list[nn.Parameter] = []
    filled: float = 0
    for parameter in parameters:
        if bucket and (bucket[-1].dtype != parameter.dtype or filled >= BUCKET):
            yield bucket
            bucket, filled = [], 0
        bucket.append(parameter)
        filled += parameter.nbytes
    if bucket:
        yield bucket


def clip_to(parameters: Sequence[nn.Parameter], norm: float, bound: float) -> None:
    """Scale the gradients by `bound` over `norm` if that makes them smaller."""
    if math.isfinite(norm) and norm > bound:
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad.mul_(bound / (norm + 1e-6))
