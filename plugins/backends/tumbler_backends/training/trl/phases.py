"""A phase of training with TRL: its trainer, its optimizer, and how rows become the inputs of the trainer's loss."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from tumbler_backends.training.trl.batching import micro_batches
from tumbler_backends.training.trl.checkpoint import Policy
from tumbler_backends.training.trl.inputs import Logprobs, aligned, policy_inputs, prompt_and_completion, share
from tumbler_backends.training.trl.rows import Row
from tumbler_backends.training.trl.settings import TRLTrainingSettings
from tumbler_backends.training.trl.stepping import Stepper
from tumbler_backends.training.trl.tally import Tally
from tumbler_backends.training.trl.trainers import policy_trainer, supervised_trainer

__all__ = ["PolicyPhase", "SupervisedPhase"]


class SupervisedPhase:
    """Steps on demonstrations with TRL's `SFTTrainer`."""

    def __init__(self, policy: Policy, settings: TRLTrainingSettings, *, scratch: Path, optimizer_steps: int) -> None:
        self._settings = settings
        policy.release()
        self._trainer = supervised_trainer(policy.model, policy.tokenizer, settings, scratch=scratch)
        self._stepper = Stepper(
            self._trainer, optimizer_steps=optimizer_steps, max_skipped_steps=settings.max_skipped_steps
        )

    def take(self, rows: Sequence[Row], tally: Tally) -> bool:
        """Take one optimizer step on the mean over the rows' trained tokens, and return whether it was taken."""
        batches = micro_batches(rows, tokens=self._settings.micro_batch_tokens)
        return self._stepper.take([self._inputs(each) for each in batches], tally)

    def _inputs(self, rows: Sequence[Row]) -> tuple[Mapping[str, Any], int]:
        features = [{"input_ids": row.tokens, "labels": row.labels} for row in rows]
        return self._trainer.data_collator(features), sum(row.trained for row in rows)

    def state(self) -> dict[str, Any]:
        """Return everything that `restore` needs."""
        return self._stepper.state()

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state` of the same phase and steps."""
        self._stepper.restore(state)


class PolicyPhase:
    """Steps on rollouts with TRL's `GRPOTrainer`."""

    def __init__(
        self,
        policy: Policy,
        settings: TRLTrainingSettings,
        *,
        scratch: Path,
        optimizer_steps: int,
        temperature: float,
    ) -> None:
        self.temperature = temperature
        """By which the trainer divides logits, for the whole phase."""
        self._settings = settings
        policy.release()
        self._trainer = policy_trainer(
            policy.model, policy.tokenizer, settings, scratch=scratch, temperature=temperature
        )
        self._stepper = Stepper(
            self._trainer, optimizer_steps=optimizer_steps, max_skipped_steps=settings.max_skipped_steps
        )

    def old_logprobs(self, rows: Sequence[Row], *, behaviour: bool) -> Logprobs:
        """Return the inference engine's log-probabilities, or those under the weights of now."""
        device = self._trainer.args.device
        if behaviour:
            return {row: torch.tensor(row.sampling_logprobs, device=device) for row in rows}
        return self._score(cast("nn.Module", self._trainer.model), rows)

    def reference_logprobs(self, rows: Sequence[Row]) -> Logprobs | None:
        """Return those under the weights with which the phase began; None if the loss does not read them."""
        return None if self._reference is None else self._score(self._reference, rows)

    def take(self, rows: Sequence[Row], old: Logprobs | None, reference: Logprobs | None, tally: Tally) -> bool:
        """Take one optimizer step on TRL's loss of the rows, and return whether it was taken.

        Args:
            rows: what to learn from.
            old: log-probabilities of the policy that sampled; None if that is the policy in training.
            reference: what `reference_logprobs` returned for these rows, among others.
            tally: what to add metrics to.
        """
        batches = micro_batches(rows, tokens=self._settings.micro_batch_tokens)
        tokens = sum(row.trained for row in rows)
        inputs = [
            policy_inputs(
                each,
                old,
                reference,
                tokens=tokens,
                share=share(each, rows, batches=len(batches), loss=self._settings.loss),
                loss=self._settings.loss,
            )
            for each in batches
        ]
        counts = (sum(row.trained for row in each) for each in batches)
        return self._stepper.take(list(zip(inputs, counts, strict=True)), tally)

    def _score(self, model: nn.Module, rows: Sequence[Row]) -> Logprobs:
        scores: dict[Row, Tensor] = {}
        for batch in micro_batches(rows, tokens=self._settings.micro_batch_tokens):
            inputs = prompt_and_completion(batch)
            prompt = inputs["prompt_ids"].shape[1]
            for row, logprobs in zip(batch, self._trainer.logprobs(model, inputs), strict=True):
                scores[row] = aligned(row, logprobs, prompt=prompt)
        return scores

    def state(self) -> dict[str, Any]:
        """Return everything that `restore` needs."""
        reference = self._reference
        return {
            **self._stepper.state(),
            "temperature": self.temperature,
            "reference": None if reference is None else dict(reference.state_dict()),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a `state` of the same phase, steps and temperature."""
        self._stepper.restore(state)
        if self._reference is not None and state["reference"] is not None:
            self._reference.load_state_dict(state["reference"])

    @property
    def _reference(self) -> nn.Module | None:
        return cast("nn.Module | None", self._trainer.ref_model)
