"""The strategy `fsdp`: every trainer keeps a part of each weight and gathers a layer's when it computes the layer."""

import math
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from tumbler_backends.training.torch.collate import Batch, one_token
from tumbler_backends.training.torch.parallel.strategy import Forward, add_up_gradients, clip_to
from tumbler_backends.training.torch.parallel.team import Team
from tumbler_backends.training.torch.policy import Policy, Scores

__all__ = ["Sharded"]


class Sharded:
    """Weights, gradients and optimizer are split over the trainers, with PyTorch's `fully_shard`.

    Accelerate offers that on accelerators alone; used directly it is the same on the CPU. A pass gathers
    weights from all trainers and hands gradients back to them, so that they must all make as many: one with
    less to compute makes passes without a token of a loss.
    """

    in_step = True

    def __init__(self, team: Team, accelerator: Accelerator) -> None:
        self.team = team
        self.device: torch.device = accelerator.device
        self._accelerator = accelerator
        self._mesh = init_device_mesh(self.device.type, (team.size,))
        self._policy: Policy | None = None
        self._scores: Scores | None = None

    def prepare(self, policy: Policy) -> Forward:
        """Put mixed precision on the policy and split its layers, each as a unit, and then the rest."""
        # The split moves the policy to its device, a unit at a time.
        self._accelerator.prepare_model(policy, device_placement=False, evaluation_mode=True)
        layers = set(policy.model._no_split_modules or ())
        for module in list(policy.modules()):
            if type(module).__name__ in layers:
                fully_shard(module, mesh=self._mesh)
        fully_shard(policy, mesh=self._mesh)
        self._policy = policy
        # Of scores that are views of other tensors, which nobody changes in place.
        warnings.filterwarnings("ignore", "FSDP2-wrapped module")
        return self._forward

    @contextmanager
    def using(self, weights: Mapping[str, Tensor]) -> Iterator[Forward]:
        """Have the policy hold other weights for as long as the context lasts."""
        held = {name: self.held(each) for name, each in self._prepared.model.named_parameters() if name in weights}
        kept = {name: each.clone() for name, each in held.items()}
        _put(held, weights)
        try:
            yield self._forward
        finally:
            _put(held, kept)

    def backward(self, total: Tensor) -> None:
        """Go back through the last scores, even if the loss does not depend on them."""
        assert self._scores is not None, "a loss is of scores"
        scores, self._scores = self._scores, None
        self._accelerator.backward(total + 0 * scores.logprobs.sum())

    def passes(self, own: int) -> int:
        """Return the passes of the trainer that has most to compute."""
        return self.team.most(own)

    def idle(self, passes: int, *, gradient: bool) -> None:
        """Score one token in each pass and learn nothing from it."""
        for _ in range(passes):
            self.team.beat()
            with torch.set_grad_enabled(gradient):
                scores = self._forward(one_token(self.device))
            if gradient:
                self.backward(0 * scores.logprobs.sum())

    def add_up(self, parameters: Sequence[nn.Parameter]) -> None:
        """Turn the mean over trainers, which `fully_shard` makes, into a sum, and add up what is not split."""
        for parameter in parameters:
            if isinstance(parameter, DTensor) and parameter.grad is not None:
                parameter.grad.mul_(self.team.size)
        add_up_gradients(self.team, [each for each in parameters if not isinstance(each, DTensor)])

    def clip(self, parameters: Sequence[nn.Parameter], bound: float) -> float:
        """Clip by the norm of all trainers' parts together."""
        split = [each.grad.to_local() for each in parameters if isinstance(each.grad, DTensor)]
        same = [each.grad for each in parameters if each.grad is not None and not isinstance(each.grad, DTensor)]
        (squares,) = self.team.total([float(torch.nn.utils.get_total_norm(split).double() ** 2) if split else 0.0])
        squares += float(torch.nn.utils.get_total_norm(same).double() ** 2) if same else 0.0
        norm = math.sqrt(squares) if math.isfinite(squares) else math.nan
        clip_to(parameters, norm, bound)
        return norm

    def held(self, tensor: Tensor) -> Tensor:
        """Return this trainer's part, or all of a tensor that is not split."""
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor

    def full(self, held: Tensor, like: Tensor) -> Tensor:
        """Gather the parts, in memory of the processor; trainers that do not lead have no use for the whole."""
        if not isinstance(like, DTensor):
            return held
        self.team.beat()
        split = DTensor.from_local(
            held, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
        )
        whole = split.full_tensor()
        return whole.cpu() if self.team.leads else whole.new_zeros(()).expand(whole.shape)

    def part(self, full: Tensor, like: Tensor) -> Tensor:
        """Split the whole as the parameter is split."""
        if not isinstance(like, DTensor) or full.shape != like.shape:
            return full
        return distribute_tensor(full.to(self.device), like.device_mesh, like.placements, src_data_rank=None)

    @property
    def _prepared(self) -> Policy:
        assert self._policy is not None, "prepare comes first"
        return self._policy

    def _forward(self, batch: Batch, *, entropy_gradient: bool = False, with_states: bool = False) -> Scores:
        scores = cast("Scores", self._prepared(batch, entropy_gradient=entropy_gradient, with_states=with_states))
        if torch.is_grad_enabled():
            self._scores = scores
        else:
            # What lies outside the layers stays gathered until a backward pass, and would be used again as it is.
            cast("FSDPModule", self._prepared).reshard()
        return scores


def _put(held: Mapping[str, Tensor], weights: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in held.items():
            tensor.copy_(weights[name])
