"""The training itself, on whatever thread calls it: supervised steps, the algorithm's steps, checkpoints."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor

from tumbler.contracts.algorithm import Algorithm
from tumbler.contracts.batch import CreditedTrajectory, LossOutput
from tumbler.contracts.inference import WeightUpdate
from tumbler.contracts.training import Phase, StepReport
from tumbler.errors import RunError
from tumbler.trajectory.record import Trajectory
from tumbler_backends.training.folders import copy_weights
from tumbler_backends.training.torch.batching import computed_tokens, deal, micro_batches
from tumbler_backends.training.torch.checkpoint import read_state, write_checkpoint
from tumbler_backends.training.torch.layout import Example, rl_examples, sft_examples
from tumbler_backends.training.torch.losses import AlgorithmLoss, SupervisedLoss, old_and_values
from tumbler_backends.training.torch.old_policy import OldPolicy
from tumbler_backends.training.torch.optimization import Optimization
from tumbler_backends.training.torch.policy import load_policy
from tumbler_backends.training.torch.reference import Reference
from tumbler_backends.training.torch.scoring import Scorer
from tumbler_backends.training.torch.settings import TorchTrainingSettings
from tumbler_backends.training.torch.tally import Tally
from tumbler_backends.training.torch.value_head import ValueHead

__all__ = ["Trainer"]


class Trainer:
    """Owns weights, optimizer and random state; every method is synchronous."""

    def __init__(self, model: Path, settings: TorchTrainingSettings, *, seed: int) -> None:
        self.version = 0
        self._settings = settings
        self._model_folder = model
        self._generator = torch.Generator().manual_seed(seed)
        self._optimization: Optimization | None = None
        self._snapshots: dict[int, Mapping[str, Tensor]] = {}
        self._reference = Reference(self.version)
        self._value_head: ValueHead | None = None
        self._load_weights(model)
        if settings.snapshots:
            # Inference starts from the model folder itself, so version 0 counts as published.
            self.weights()

    def begin(self, phase: Phase, *, optimizer_steps: int) -> None:
        """Begin a phase with a fresh optimizer."""
        settings = self._settings.sft if phase == "sft" else self._settings.rl
        self._optimization = Optimization(
            # One of its own, since an Accelerator never lets go of an optimizer that it has prepared.
            _accelerator(self._settings),
            self._forward,
            settings,
            phase=phase,
            optimizer_steps=optimizer_steps,
            max_skipped_steps=self._settings.max_skipped_steps,
        )
        self._reference = Reference(self.version)
        if phase == "rl" and self._value_head is not None:
            self._optimization.add(self._value_head, learning_rate=self._settings.value_head.learning_rate)

    def fit_sft(self, batch: Sequence[Trajectory]) -> StepReport:
        """Take one supervised optimizer step; its loss is the mean over all unmasked tokens of the batch."""
        optimization = self._in_phase("sft")
        examples = sft_examples(batch)
        tally = Tally()
        with tally.clock("total"):
            self._update(optimization, examples, SupervisedLoss(forward=self._forward, device=self._device), tally)
        return self._report(tally, examples, given=len(batch))

    def step(self, batch: Sequence[CreditedTrajectory], algorithm: Algorithm) -> StepReport:
        """Take `epochs` x `minibatches` optimizer steps on the algorithm's loss."""
        optimization = self._in_phase("rl")
        rule = algorithm.update_rule
        examples = rl_examples(batch)
        head = self._trained_value_head(optimization) if rule.values else None
        tally = Tally()
        with tally.clock("total"):
            with tally.clock("old_policy"):
                loss_of = self._algorithm_loss(algorithm, examples, head)
            for _ in range(rule.epochs):
                for part in deal(examples, parts=rule.minibatches, generator=self._generator):
                    self._update(optimization, part, loss_of, tally)
        report = self._report(tally, examples, given=len(batch))
        return replace(report, metrics={**report.metrics, f"train/old_policy_{rule.old_policy}": 1.0})

    def weights(self) -> WeightUpdate:
        """Return a copy of the weights, which later steps do not change, and keep it as a snapshot."""
        weights = self._copy_weights()
        if self._settings.snapshots:
            self._snapshots[self.version] = weights
            for version in sorted(self._snapshots)[: -self._settings.snapshots]:
                del self._snapshots[version]
        return WeightUpdate(version=self.version, tensors=weights.items)

    def save(self, folder: Path) -> None:
        """Write a checkpoint from which `load` continues exactly."""
        state = {
            "version": self.version,
            "generator": self._generator.get_state(),
            "optimization": None if self._optimization is None else self._optimization.state(),
            "snapshots": {
                version: dict(weights) for version, weights in self._snapshots.items() if version != self.version
            },
            "reference": self._reference.state(self.version),
            "value_head": None if self._value_head is None else self._value_head.state_dict(),
        }
        write_checkpoint(folder, model=self._policy.model, tokenizer=self._model_folder, state=state)

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint, in the phase in which it was written."""
        state = read_state(folder, device=self._device)
        self._optimization = None
        self._load_weights(folder / "model")
        self.version = state["version"]
        self._generator.set_state(state["generator"].cpu())
        self._snapshots = state["snapshots"]
        self._value_head = None
        if state["value_head"] is not None:
            self._value_head = self._new_value_head()
            self._value_head.load_state_dict(state["value_head"])
        if state["optimization"] is not None:
            self.begin(state["optimization"]["phase"], optimizer_steps=state["optimization"]["optimizer_steps"])
            self._in_phase(state["optimization"]["phase"]).restore(state["optimization"])
        self._reference.restore(state["reference"])

    def close(self) -> None:
        """Let go of weights and optimizer."""
        self._optimization = None
        self._snapshots = {}
        self._value_head = None
        del self._policy, self._forward, self._reference

    def _load_weights(self, folder: Path) -> None:
        accelerator = _accelerator(self._settings)
        self._device: torch.device = accelerator.device
        self._policy = load_policy(folder, self._settings)
        self._forward = accelerator.prepare_model(self._policy)

    def _in_phase(self, phase: Phase) -> Optimization:
        if self._optimization is None or self._optimization.phase != phase:
            current = "none" if self._optimization is None else repr(self._optimization.phase)
            raise RunError(
                f"a step of phase {phase!r} was asked for in phase {current}; call begin({phase!r}, ...) first"
            )
        return self._optimization

    def _copy_weights(self) -> Mapping[str, Tensor]:
        """Return a copy of the current weights that nobody changes."""
        return self._snapshots.get(self.version) or copy_weights(self._policy.model)

    def _trained_value_head(self, optimization: Optimization) -> ValueHead:
        """Return the value head; the first call makes it and has it optimized."""
        if self._value_head is None:
            self._value_head = self._new_value_head()
            optimization.add(self._value_head, learning_rate=self._settings.value_head.learning_rate)
        return self._value_head

    def _new_value_head(self) -> ValueHead:
        policy = self._policy
        detach = self._settings.value_head.detach
        return ValueHead(policy.state_size(), dtype=policy.model.dtype, device=self._device, detach=detach)

    def _algorithm_loss(
        self, algorithm: Algorithm, examples: Sequence[Example], head: ValueHead | None
    ) -> AlgorithmLoss:
        """Return the loss of these examples, with all that must be taken before the first optimizer step on them."""
        rule = algorithm.update_rule
        scorer = Scorer(
            policy=self._policy,
            forward=self._forward,
            micro_batch_tokens=self._settings.micro_batch_tokens,
            device=self._device,
        )
        old_policy = OldPolicy(scorer=scorer, version=self.version, snapshots=self._snapshots)
        old, old_values = old_and_values(rule, examples, scorer=scorer, old_policy=old_policy, head=head)
        reference = None
        if rule.reference:
            began = self._reference.weights(self.version, kept=self._snapshots, copy=self._copy_weights)
            reference = scorer.logprobs(examples, began)
        return AlgorithmLoss(
            algorithm=algorithm,
            forward=self._forward,
            device=self._device,
            head=head,
            old=old,
            old_values=old_values,
            reference=reference,
        )

    def _update(
        self,
        optimization: Optimization,
        examples: Sequence[Example],
        loss_of: Callable[[Sequence[Example]], LossOutput],
        tally: Tally,
    ) -> None:
        share = self._policy.shares
        batches = micro_batches(examples, tokens=self._settings.micro_batch_tokens, share=share)
        tally.add_pass(
            tokens=sum(sum(example.lengths) for example in examples),
            computed=sum(computed_tokens(each, share=share) for each in batches),
        )
        if optimization.update(batches, loss_of, tally) and tally.steps == 1:
            self.version += 1

    def _report(self, tally: Tally, examples: Sequence[Example], *, given: int) -> StepReport:
        counts = {
            "train/tokens": sum(sum(example.lengths) for example in examples),
            "train/computed_tokens": tally.computed,
            "train/trainable_tokens": sum(example.trained_tokens for example in examples),
            "train/trajectories": len(examples),
            "train/trajectories_left_out": given - len(examples),
            "train/policy_version": self.version,
        }
        return StepReport(
            optimizer_steps=tally.steps,
            metrics={**tally.metrics(), **{name: float(count) for name, count in counts.items()}},
            samples=tally.samples,
        )


def _accelerator(settings: TorchTrainingSettings) -> Accelerator:
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        return Accelerator(mixed_precision=settings.mixed_precision)
    except ValueError as error:
        raise RunError(
            f"mixed_precision = {settings.mixed_precision!r} cannot be had: another training backend of this "
            "process has chosen otherwise; give all of them the same value, or use one process for each"
        ) from error
