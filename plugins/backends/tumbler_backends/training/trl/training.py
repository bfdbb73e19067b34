"""The training itself, on whatever thread calls it: TRL's steps, checkpoints, versions."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from tumbler.contracts.algorithm import Algorithm
from tumbler.contracts.batch import CreditedTrajectory
from tumbler.contracts.inference import WeightUpdate
from tumbler.contracts.training import Phase, StepReport
from tumbler.errors import RunError
from tumbler.trajectory.record import Trajectory
from tumbler_backends.training.folders import copy_weights
from tumbler_backends.training.trl.acceptance import accept
from tumbler_backends.training.trl.batching import deal
from tumbler_backends.training.trl.checkpoint import load_policy, read_state, write_checkpoint
from tumbler_backends.training.trl.inputs import Logprobs
from tumbler_backends.training.trl.phases import PolicyPhase, SupervisedPhase
from tumbler_backends.training.trl.rows import Example, Row, rollout_examples, supervised_examples
from tumbler_backends.training.trl.settings import TRLTrainingSettings
from tumbler_backends.training.trl.tally import Tally

__all__ = ["Training"]


class Training:
    """Owns weights, trainers and random state; every method is synchronous."""

    def __init__(self, model: Path, settings: TRLTrainingSettings, *, seed: int) -> None:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        self.version = 0
        self._settings = settings
        self._model_folder = model
        self._generator = torch.Generator().manual_seed(seed)
        self._policy = load_policy(model, settings)
        self._scratch = tempfile.TemporaryDirectory(prefix="tumbler-trl-")
        self._begun: tuple[Phase, int] | None = None
        self._phase: SupervisedPhase | PolicyPhase | None = None
        self._accepted: set[type[Algorithm]] = set()

    def begin(self, phase: Phase, *, optimizer_steps: int) -> None:
        """Begin a phase with a fresh optimizer, which its first step makes: only rollouts tell their temperature."""
        self._phase = None
        self._begun = (phase, optimizer_steps)

    def fit_sft(self, batch: Sequence[Trajectory]) -> StepReport:
        """Take one supervised optimizer step; its loss is the mean over all unmasked tokens of the batch."""
        tally = Tally()
        phase = self._supervised_phase()
        examples = supervised_examples(batch)
        self.version += phase.take(_rows(examples), tally)
        return self._report(tally, examples, given=len(batch))

    def step(self, batch: Sequence[CreditedTrajectory], algorithm: Algorithm) -> StepReport:
        """Take `epochs` x `minibatches` optimizer steps on TRL's loss."""
        tally = Tally()
        rule = algorithm.update_rule
        self._check_phase("rl")
        accept(algorithm, loss_type=self._settings.loss.loss_type, first=type(algorithm) not in self._accepted)
        self._accepted.add(type(algorithm))
        examples = rollout_examples(batch)
        if examples:
            phase = self._policy_phase(_temperature(examples))
            old = self._old_logprobs(phase, algorithm, _rows(examples))
            reference = phase.reference_logprobs(_rows(examples))
            for _ in range(rule.epochs):
                for part in deal(examples, parts=rule.minibatches, generator=self._generator):
                    phase.take(_rows(part), old, reference, tally)
        else:
            tally.empty += 1
        self.version += tally.steps > 0
        report = self._report(tally, examples, given=len(batch))
        return StepReport(
            optimizer_steps=report.optimizer_steps,
            metrics={**report.metrics, f"train/old_policy_{rule.old_policy}": 1.0},
        )

    def weights(self) -> WeightUpdate:
        """Return a copy of the weights, which later steps do not change."""
        tensors = copy_weights(self._policy.model).items
        return WeightUpdate(version=self.version, tensors=tensors, canary=self._policy.canary())

    def save(self, folder: Path) -> None:
        """Write a checkpoint from which `load` continues exactly."""
        state = {
            "version": self.version,
            "generator": self._generator.get_state(),
            "begun": self._begun,
            "phase": None if self._phase is None else self._phase.state(),
        }
        write_checkpoint(folder, self._policy, tokenizer=self._model_folder, state=state)

    def load(self, folder: Path) -> None:
        """Continue from a checkpoint, in the phase in which it was written."""
        state = read_state(folder)
        self._phase = None
        self._policy = load_policy(folder / "model", self._settings)
        self.version = state["version"]
        self._generator.set_state(state["generator"])
        self._begun = state["begun"]
        if state["phase"] is not None:
            phase = (
                self._supervised_phase()
                if "temperature" not in state["phase"]
                else self._policy_phase(state["phase"]["temperature"])
            )
            phase.restore(state["phase"])

    def close(self) -> None:
        """Let go of weights and optimizer, and remove the scratch files."""
        self._phase = self._begun = None
        del self._policy
        self._scratch.cleanup()

    def _check_phase(self, name: Phase) -> int:
        """Return the optimizer steps of the phase; raise `RunError` outside of it."""
        if self._begun is None or self._begun[0] != name:
            current = "none" if self._begun is None else repr(self._begun[0])
            raise RunError(
                f"a step of phase {name!r} was asked for in phase {current}; call begin({name!r}, ...) first"
            )
        return self._begun[1]

    def _supervised_phase(self) -> SupervisedPhase:
        steps = self._check_phase("sft")
        if not isinstance(self._phase, SupervisedPhase):
            scratch = Path(self._scratch.name)
            self._phase = SupervisedPhase(self._policy, self._settings, scratch=scratch, optimizer_steps=steps)
        return self._phase

    def _policy_phase(self, temperature: float) -> PolicyPhase:
        steps = self._check_phase("rl")
        if not isinstance(self._phase, PolicyPhase):
            self._phase = PolicyPhase(
                self._policy,
                self._settings,
                scratch=Path(self._scratch.name),
                optimizer_steps=steps,
                temperature=temperature,
            )
        if self._phase.temperature != temperature:
            raise RunError(
                f"rollouts of temperature {temperature} came in a phase that began with {self._phase.temperature}; "
                "TRL's trainer has one temperature: sample all rollouts of a phase with the same"
            )
        return self._phase

    def _old_logprobs(self, phase: PolicyPhase, algorithm: Algorithm, rows: Sequence[Row]) -> Logprobs | None:
        """Return them before the weights move; None if the forward pass of the only step gives them."""
        rule = algorithm.update_rule
        once = rule.epochs * rule.minibatches == 1
        if once and rule.old_policy == "recompute" and self._settings.loss.sampling_correction == "none":
            return None
        return phase.old_logprobs(rows, behaviour=rule.old_policy == "behaviour")

    def _report(self, tally: Tally, examples: Sequence[Example], *, given: int) -> StepReport:
        rows = _rows(examples)
        counts = {
            "train/tokens": sum(len(row.tokens) for row in rows),
            "train/trainable_tokens": sum(row.trained for row in rows),
            "train/trajectories": len(examples),
            "train/trajectories_left_out": given - len(examples),
            "train/policy_version": self.version,
        }
        metrics = {**tally.metrics(), **{name: float(count) for name, count in counts.items()}}
        return StepReport(optimizer_steps=tally.steps, metrics=metrics)


def _rows(examples: Sequence[Example]) -> list[Row]:
    return [row for example in examples for row in example.rows]


def _temperature(examples: Sequence[Example]) -> float:
    """Return the temperature at which all were sampled; raise `RunError` if there are several."""
    temperatures = sorted({example.temperature for example in examples})
    if len(temperatures) > 1:
        raise RunError(
            f"a batch holds rollouts of temperatures {temperatures}; TRL's trainer has one: sample all with the same"
        )
    return temperatures[0]
