"""One phase's optimizer: AdamW on a schedule of optimizer steps, through Accelerate."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import nn

from tumbler.contracts.batch import LossOutput
from tumbler.contracts.training import Phase
from tumbler.errors import RunError
from tumbler_backends.training.torch.layout import Example
from tumbler_backends.training.torch.parallel.strategy import Strategy
from tumbler_backends.training.torch.schedule import learning_rate
from tumbler_backends.training.torch.settings import OptimizerSettings
from tumbler_backends.training.torch.tally import Tally

__all__ = ["Optimization"]


class Optimization:
    """Moves the weights along the accumulated gradient."""

    def __init__(
        self,
        accelerator: Accelerator,
        strategy: Strategy,
        model: nn.Module,
        settings: OptimizerSettings,
        *,
        phase: Phase,
        optimizer_steps: int,
        max_skipped_steps: int,
    ) -> None:
        self.phase = phase
        self.optimizer_steps = optimizer_steps
        """Over which the schedule is laid out."""
        self.taken = 0
        """Optimizer steps taken in this phase."""
        self._skipped_in_a_row = 0
        self._max_skipped_steps = max_skipped_steps
        self._strategy = strategy
        self._settings = settings
        self._parameters = [each for each in model.parameters() if each.requires_grad]
        groups = [
            {"params": [each for each in self._parameters if each.ndim > 1], "weight_decay": settings.weight_decay},
            {"params": [each for each in self._parameters if each.ndim <= 1], "weight_decay": 0.0},
        ]
        self._scales = [1.0] * len(groups)
        """What the schedule's learning rate is multiplied by for each group of parameters."""
        optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=settings.betas, fused=True)
        self._optimizer = accelerator.prepare_optimizer(optimizer)

    def add(self, module: nn.Module, *, learning_rate: float) -> None:
        """Move the parameters of another module as well, without weight decay, up to a learning rate of its own."""
        parameters = list(module.parameters())
        self._parameters.extend(parameters)
        self._scales.append(learning_rate / self._settings.learning_rate)
        self._optimizer.add_param_group({"params": parameters, "weight_decay": 0.0})

    def update(
        self,
        micro_batches: Sequence[Sequence[Example]],
        loss_of: Callable[[Sequence[Example]], LossOutput],
        tally: Tally,
    ) -> bool:
        """Take one optimizer step on the micro-batches together, and return whether it was taken.

        It is not when there is nothing to learn (no token, no denominator, or no gradient: AdamW's
        moments would move the weights all the same), nor when loss or gradient is not finite. Raise
        `RunError` when too many steps in a row were not finite.
        """
        try:
            outputs = self._accumulate(micro_batches, loss_of, tally)
            denominator, broken = self._strategy.team.total(
                [sum(output.denominator for output in outputs or ()), float(outputs is None)]
            )
            if broken or outputs is None:
                return self._skip("loss", tally)
            tally.add_losses(outputs)
            with tally.clock("optimizer"):
                norm = self._divide_and_clip(denominator) if denominator else 0.0
                if not math.isfinite(norm):
                    return self._skip("gradient", tally)
                if norm == 0:
                    tally.empty += 1
                    return False
                tally.add_step(gradient_norm=norm, learning_rate=self._advance())
        finally:
            self._optimizer.zero_grad()
        self._skipped_in_a_row = 0
        return True

    def _accumulate(
        self,
        micro_batches: Sequence[Sequence[Example]],
        loss_of: Callable[[Sequence[Example]], LossOutput],
        tally: Tally,
    ) -> list[LossOutput] | None:
        """Add up the gradients and return the outputs without theirs; None if one is not finite."""
        outputs: list[LossOutput] = []
        finite = True
        passes = self._strategy.passes(len(micro_batches))
        for micro_batch in micro_batches:
            self._strategy.team.beat()
            with tally.clock("forward"):
                output = loss_of(micro_batch)
                finite = finite and math.isfinite(float(output.total.detach()) + output.denominator)
            if not finite and not self._strategy.in_step:
                return None
            with tally.clock("backward"):
                self._strategy.backward(output.total)
            outputs.append(replace(output, total=output.total.detach()))
        self._strategy.idle(passes - len(micro_batches), gradient=True)
        return outputs if finite else None

    def _skip(self, what: str, tally: Tally) -> Literal[False]:
        tally.skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row > self._max_skipped_steps:
            raise RunError(
                f"the {what} of {self._skipped_in_a_row} optimizer step(s) in a row was not finite; lower the "
                f"learning rate of phase {self.phase!r}, look for extreme credits or log-probabilities, or raise "
                "the training backend's `max_skipped_steps`"
            )
        return False

    def _divide_and_clip(self, denominator: float) -> float:
        """Divide the gradient, clip it, and return its norm before clipping, which may not be finite."""
        self._strategy.add_up(self._parameters)
        for parameter in self._parameters:
            if parameter.grad is not None:
                parameter.grad.div_(denominator)
        return self._strategy.clip(self._parameters, self._settings.max_grad_norm or math.inf)

    def _advance(self) -> float:
        """Move the weights and return the learning rate."""
        rate = learning_rate(self._settings, step=self.taken, steps=self.optimizer_steps)
        for group, scale in zip(self._optimizer.param_groups, self._scales, strict=True):
            group["lr"] = rate * scale
        self._optimizer.step()
        self.taken += 1
        return rate

    def state(self) -> dict[str, Any]:
        """Return everything that `restore` needs, whole and in types that `torch.load` reads with `weights_only`."""
        return {
            "phase": self.phase,
            "optimizer_steps": self.optimizer_steps,
            "taken": self.taken,
            "skipped_in_a_row": self._skipped_in_a_row,
            "optimizer": self._whole_state(),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state` of an optimization of the same phase, steps, parameters and added modules."""
        self.taken = state["taken"]
        self._skipped_in_a_row = state["skipped_in_a_row"]
        parameters = [each for group in self._optimizer.param_groups for each in group["params"]]
        whole = state["optimizer"]
        parts = {
            index: {name: self._strategy.part(moment, parameters[index]) for name, moment in moments.items()}
            for index, moments in whole["state"].items()
        }
        self._optimizer.load_state_dict({**whole, "state": parts})

    def _whole_state(self) -> dict[str, Any]:
        """Return the optimizer's state with each moment whole."""
        state = self._optimizer.state_dict()
        whole = {
            index: {name: self._strategy.full(self._strategy.held(moment), moment) for name, moment in moments.items()}
            for index, moments in state["state"].items()
        }
        return {**state, "state": whole}
