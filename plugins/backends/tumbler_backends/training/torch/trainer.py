"""The training itself, on whatever thread calls it: supervised steps, the algorithm's steps, checkpoints."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tumbler.contracts.algorithm import Algorithm
from tumbler.contracts.batch import CreditedTrajectory, LossOutput
from tumbler.contracts.inference import WeightUpdate
from tumbler.contracts.training import Phase, StepReport
from tumbler.errors import RunError, RunFolderError
from tumbler.trajectory.record import Trajectory
from tumbler_backends.training.torch.batching import computed_tokens, deal, micro_batches, share_out
from tumbler_backends.training.torch.checkpoint import read_state, write_checkpoint
from tumbler_backends.training.torch.layout import Example, rl_examples, sft_examples
from tumbler_backends.training.torch.losses import AlgorithmLoss, SupervisedLoss, old_and_values
from tumbler_backends.training.torch.old_policy import OldPolicy
from tumbler_backends.training.torch.optimization import Optimization
from tumbler_backends.training.torch.parallel.team import Team
from tumbler_backends.training.torch.policy import state_size
from tumbler_backends.training.torch.prepared import Prepared, new_accelerator, prepare
from tumbler_backends.training.torch.reference import Reference
from tumbler_backends.training.torch.scoring import Scorer
from tumbler_backends.training.torch.settings import TorchTrainingSettings
from tumbler_backends.training.torch.tally import Tally
from tumbler_backends.training.torch.value_head import ValueHead

__all__ = ["Trainer"]


class Trainer:
    """Owns weights, optimizer and random state; every method is synchronous.

    One of several trainers of a team computes its share of each batch. All of them must be called alike;
    then each knows the whole step's metrics, and all have the same random state and version.
    """

    def __init__(self, model: Path, settings: TorchTrainingSettings, *, seed: int, team: Team | None = None) -> None:
        self.version = 0
        self._settings = settings
        self._team = team or Team()
        self._model_folder = model
        self._seed = seed
        self._generator = torch.Generator().manual_seed(seed)
        self._optimization: Optimization | None = None
        self._snapshots: dict[int, Mapping[str, Tensor]] = {}
        self._reference = Reference(self.version)
        self._value_head: ValueHead | None = None
        self._load_weights(model)
        if settings.snapshots:
            # Inference starts from the model folder itself, so version 0 counts as published.
            self._keep_snapshot()

    def begin(self, phase: Phase, *, optimizer_steps: int) -> None:
        """Begin a phase with a fresh optimizer."""
        settings = self._settings.sft if phase == "sft" else self._settings.rl
        self._optimization = Optimization(
            # One of its own, since an Accelerator never lets go of an optimizer that it has prepared.
            new_accelerator(self._settings),
            self._prepared.strategy,
            self._prepared.policy,
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
            loss_of = SupervisedLoss(forward=self._prepared.forward, device=self._prepared.strategy.device)
            self._update(optimization, examples, loss_of, tally)
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
        """Return a copy of the weights, which later steps do not change, and keep it as a snapshot.

        With an adapter these are the adapted matrices alone. The canary is that of the policy in training, which
        has not changed since the copy was made.
        """
        held = self._keep_snapshot() if self._settings.snapshots else self._held_weights()
        weights = self._prepared.weights
        return WeightUpdate(
            version=self.version,
            tensors=weights.published(held).items,
            partial=weights.partial,
            canary=self._prepared.canary(),
        )

    def save(self, folder: Path) -> None:
        """Write a checkpoint from which `load` continues exactly, with any number of trainers."""
        weights, adapter = self._prepared.weights, self._prepared.adapter
        snapshots = {version: held for version, held in self._snapshots.items() if version != self.version}
        state = {
            "version": self.version,
            "generator": self._generator.get_state(),
            "optimization": None if self._optimization is None else self._optimization.state(),
            "snapshots": {version: weights.full(held) for version, held in snapshots.items()},
            "reference": self._reference.state(self.version, full=weights.full),
            "value_head": None if self._value_head is None else self._value_head.state_dict(),
            "adapter": None if adapter is None else {**adapter.state(), "weights": weights.full(weights.held())},
        }
        # All trainers gather, and one writes.
        save = weights.saver()
        if self._team.leads:
            write_checkpoint(folder, save=save, tokenizer=self._model_folder, state=state)

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint, in the phase in which it was written."""
        strategy = self._prepared.strategy
        # Where each trainer keeps a part, the whole may be more than its device can hold.
        state = read_state(folder, device=torch.device("cpu") if strategy.in_step else strategy.device)
        self._optimization = None
        if self._prepared.adapter is None and state.get("adapter") is None:
            self._load_weights(folder / "model")
        else:
            self._load_adapter(state.get("adapter"), folder)
        share = self._prepared.weights.share
        self.version = state["version"]
        self._generator.set_state(state["generator"].cpu())
        self._snapshots = {version: share(full) for version, full in state["snapshots"].items()}
        self._value_head = None
        if state["value_head"] is not None:
            self._value_head = self._new_value_head()
            self._value_head.load_state_dict(state["value_head"])
        if state["optimization"] is not None:
            self.begin(state["optimization"]["phase"], optimizer_steps=state["optimization"]["optimizer_steps"])
            self._in_phase(state["optimization"]["phase"]).restore(state["optimization"])
        self._reference.restore(state["reference"], share=share)

    def close(self) -> None:
        """Let go of weights and optimizer."""
        self._optimization = None
        self._snapshots = {}
        self._value_head = None
        del self._prepared, self._reference

    def _load_adapter(self, state: Mapping[str, Any] | None, folder: Path) -> None:
        adapter = self._prepared.adapter
        if adapter is None or state is None:
            has, wants = ("an", "none") if adapter is None else ("no", "one")
            raise RunFolderError(
                f"the checkpoint {folder} has {has} adapter and this run trains {wants}; give the training backend "
                "the same `lora`, or begin a new run from the checkpoint's model/"
            )
        adapter.check(state, folder)
        self._prepared.weights.put(state["weights"])

    def _load_weights(self, folder: Path) -> None:
        self._prepared: Prepared = prepare(folder, self._settings, team=self._team, seed=self._seed)

    def _in_phase(self, phase: Phase) -> Optimization:
        if self._optimization is None or self._optimization.phase != phase:
            current = "none" if self._optimization is None else repr(self._optimization.phase)
            raise RunError(
                f"a step of phase {phase!r} was asked for in phase {current}; call begin({phase!r}, ...) first"
            )
        return self._optimization

    def _held_weights(self) -> Mapping[str, Tensor]:
        """Return a copy of the current weights, as held, that nobody changes."""
        return self._snapshots.get(self.version) or self._prepared.weights.held()

    def _keep_snapshot(self) -> Mapping[str, Tensor]:
        self._snapshots[self.version] = held = self._held_weights()
        for version in sorted(self._snapshots)[: -self._settings.snapshots]:
            del self._snapshots[version]
        return held

    def _trained_value_head(self, optimization: Optimization) -> ValueHead:
        """Return the value head; the first call makes it and has it optimized."""
        if self._value_head is None:
            self._value_head = self._new_value_head()
            optimization.add(self._value_head, learning_rate=self._settings.value_head.learning_rate)
        return self._value_head

    def _new_value_head(self) -> ValueHead:
        prepared, device = self._prepared, self._prepared.strategy.device
        size = state_size(prepared.forward, device)
        detach = self._settings.value_head.detach
        return ValueHead(size, dtype=prepared.policy.model.dtype, device=device, detach=detach)

    def _algorithm_loss(
        self, algorithm: Algorithm, examples: Sequence[Example], head: ValueHead | None
    ) -> AlgorithmLoss:
        """Return the loss of these examples, with all that must be taken before the first optimizer step on them."""
        rule = algorithm.update_rule
        prepared = self._prepared
        scorer = Scorer(
            strategy=prepared.strategy,
            forward=prepared.forward,
            micro_batch_tokens=self._settings.micro_batch_tokens,
            shares=prepared.policy.shares,
        )
        old_policy = OldPolicy(scorer=scorer, version=self.version, snapshots=self._snapshots)
        old, old_values = old_and_values(rule, examples, scorer=scorer, old_policy=old_policy, head=head)
        reference = None
        if rule.reference:
            began = self._reference.weights(self.version, kept=self._snapshots, copy=self._held_weights)
            reference = scorer.logprobs(examples, began)
        return AlgorithmLoss(
            algorithm=algorithm,
            forward=prepared.forward,
            device=prepared.strategy.device,
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
        share, team, adapter = self._prepared.policy.shares, self._team, self._prepared.adapter
        own = share_out(examples, parts=team.size, share=share)[team.rank]
        batches = micro_batches(own, tokens=self._settings.micro_batch_tokens, share=share)
        tally.add_pass(
            tokens=sum(sum(example.lengths) for example in own),
            computed=sum(computed_tokens(each, share=share) for each in batches),
        )
        with nullcontext() if adapter is None else adapter.dropout(self._generator):
            taken = optimization.update(batches, loss_of, tally)
        if taken and tally.steps == 1:
            self.version += 1

    def _report(self, tally: Tally, examples: Sequence[Example], *, given: int) -> StepReport:
        tally.merge([each for rank, each in enumerate(self._team.gather(tally)) if rank != self._team.rank])
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
            samples=tally.samples
            if not tally.steps
            else {**tally.samples, "train/gradient_norms": tally.gradient_norms},
        )
