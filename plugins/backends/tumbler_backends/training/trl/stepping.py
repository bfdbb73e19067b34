"""Optimizer steps through a Hugging Face Trainer: its loss, optimizer, schedule and clipping, one step at a time."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from transformers import Trainer

from tumbler.errors import RunError
from tumbler_backends.training.trl.tally import Tally

__all__ = ["Stepper"]


class Stepper:
    """What `Trainer.train` does around `training_step`, for micro-batches that are handed in.

    It takes no step where `Trainer` would do harm: not with a loss or gradient that is not finite, and not with
    a gradient of exactly 0, since AdamW's moments would move the weights all the same.
    """

    def __init__(self, trainer: Trainer, *, optimizer_steps: int, max_skipped_steps: int) -> None:
        self.trainer = trainer
        self._skipped_in_a_row = 0
        self._max_skipped_steps = max_skipped_steps
        self._model, self._optimizer = trainer.accelerator.prepare(trainer.model, trainer.create_optimizer())
        self._schedule = trainer.create_scheduler(num_training_steps=optimizer_steps, optimizer=self._optimizer)

    def take(self, micro_batches: Sequence[tuple[Mapping[str, Any], int]], tally: Tally) -> bool:
        """Take one optimizer step and return whether it was taken.

        Raise `RunError` when too many steps in a row were not finite.

        Args:
            micro_batches: inputs of the trainer's loss, and how many tokens they train.
            tally: what to add metrics to.
        """
        tokens = sum(count for _, count in micro_batches)
        if not tokens:
            tally.empty += 1
            return False
        try:
            loss = self._accumulate(micro_batches, tokens, tally)
            if not math.isfinite(loss):
                return self._skip("loss", tally)
            norm = self._clip()
            if not math.isfinite(norm):
                return self._skip("gradient", tally)
            tally.add("train/loss", loss, 1)
            if norm == 0:
                tally.empty += 1
                return False
            tally.add_step(gradient_norm=norm, learning_rate=self._advance())
        finally:
            self._model.zero_grad()
        self._skipped_in_a_row = 0
        return True

    def _accumulate(self, micro_batches: Sequence[tuple[Mapping[str, Any], int]], tokens: int, tally: Tally) -> float:
        """Add up the gradients and return the loss; at the first that is not finite, only that."""
        trainer = self.trainer
        trainer.current_gradient_accumulation_steps = len(micro_batches)
        items = torch.tensor(tokens, device=trainer.args.device)
        total = 0.0
        for inputs, count in micro_batches:
            loss = float(trainer.training_step(self._model, dict(inputs), items))
            if not math.isfinite(loss):
                return loss
            total += loss
            tally.add_logs(self._logs(), count)
        return total

    def _logs(self) -> dict[str, float]:
        """Return the metrics that TRL took of the last micro-batch; some may be NaN, or None in spite of the type."""
        logs: dict[str, float] = {}
        self.trainer.log(logs)
        self.trainer.state.log_history.clear()
        return logs

    def _clip(self) -> float:
        """Clip the gradient and return its norm before, which may not be finite."""
        bound = self.trainer.args.max_grad_norm or math.inf
        norm = self.trainer.accelerator.clip_grad_norm_(self._model.parameters(), bound)
        return float(norm) if isinstance(norm, Tensor) else 0.0

    def _advance(self) -> float:
        """Move the weights and the schedule, and return the learning rate."""
        rate = float(self._optimizer.param_groups[0]["lr"])
        self._optimizer.step()
        self._schedule.step()
        self.trainer.state.global_step += 1
        return rate

    def _skip(self, what: str, tally: Tally) -> Literal[False]:
        tally.skipped += 1
        self._skipped_in_a_row += 1
        if self._skipped_in_a_row > self._max_skipped_steps:
            raise RunError(
                f"the {what} of {self._skipped_in_a_row} optimizer step(s) in a row was not finite; lower the "
                "learning rate, look for extreme credits or log-probabilities, or raise the training backend's "
                "`max_skipped_steps`"
            )
        return False

    def state(self) -> dict[str, Any]:
        """Return everything that `restore` needs, in types that `torch.load` reads with `weights_only`."""
        return {
            "optimizer": self._optimizer.state_dict(),
            "schedule": self._schedule.state_dict(),
            "steps": self.trainer.state.global_step,
            "skipped_in_a_row": self._skipped_in_a_row,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state` of the same phase, steps and parameters."""
        self._optimizer.load_state_dict(state["optimizer"])
        self._schedule.load_state_dict(state["schedule"])
        self.trainer.state.global_step = state["steps"]
        self._skipped_in_a_row = state["skipped_in_a_row"]
