"""The contract of training backends as tests, on small trajectories of made-up tokens."""

import math
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from tumbler.contracts.algorithm import Group, PlannedGroup, PlanState, RolloutPlan, UpdateRule
from tumbler.contracts.batch import CreditedTrajectory, LossOutput, TokenBatch
from tumbler.contracts.environment import Task
from tumbler.contracts.training import StepReport, TrainingBackend
from tumbler.testing.samples import sample_trajectory
from tumbler.testing.suite import ContractSuite, asynchronous
from tumbler.trajectory.record import Trajectory

__all__ = ["TrainingSuite"]

Build = Callable[[], TrainingBackend]


class TrainingSuite(ContractSuite):
    """Subclass it with the fixture `make_backend`, and with `model_folder` if the backend needs a model."""

    vocabulary: ClassVar[int] = 16
    """Token ids of the trajectories are below it."""

    @pytest.fixture
    def make_backend(self) -> Build:
        """Override: return a function that builds a backend that is not yet started."""
        raise NotImplementedError("define the fixture make_backend: a function that builds the training backend")

    @pytest.fixture
    def model_folder(self, tmp_path: Path) -> Path:
        """Override for a backend that loads a model: return a folder in Hugging Face format."""
        return tmp_path

    @asynchronous
    async def test_it_starts_at_version_0(self, make_backend: Build, model_folder: Path) -> None:
        """Which is the model as it was given."""
        async with _started(make_backend(), model_folder) as backend:
            assert backend.version == 0
            assert backend.weights().version == 0

    @asynchronous
    async def test_every_call_that_trains_is_one_version(self, make_backend: Build, model_folder: Path) -> None:
        """Supervised or not; the weights to publish carry it."""
        async with _started(make_backend(), model_folder) as backend:
            backend.begin("sft", optimizer_steps=1)
            _check(await backend.fit_sft(self._demonstrations()))
            assert backend.version == 1
            backend.begin("rl", optimizer_steps=1)
            _check(await backend.step(self._credited(), _Reinforce()))
            assert backend.version == backend.weights().version == 2

    @asynchronous
    async def test_demonstrations_that_are_all_masked_change_nothing(
        self, make_backend: Build, model_folder: Path
    ) -> None:
        """Neither errors nor detours are imitated."""
        masked = [
            replace(
                each,
                chunks=tuple(replace(chunk, errored=index == 0, relevant=index == 0) for chunk in each.chunks),
            )
            for index, each in enumerate(self._demonstrations()[:2])
        ]
        async with _started(make_backend(), model_folder) as backend:
            backend.begin("sft", optimizer_steps=1)
            report = await backend.fit_sft(masked)
            assert report.optimizer_steps == 0 and backend.version == 0, "masked chunks were trained"

    @asynchronous
    async def test_replayed_chunks_are_never_trained_by_rl(self, make_backend: Build, model_folder: Path) -> None:
        """A trajectory that was replayed to its end teaches nothing."""
        replayed = sample_trajectory("replayed", replayed=3, vocabulary=self.vocabulary)
        async with _started(make_backend(), model_folder) as backend:
            backend.begin("rl", optimizer_steps=1)
            report = await backend.step([CreditedTrajectory(trajectory=replayed, credits=(1.0,) * 3)], _Reinforce())
            assert report.optimizer_steps == 0 and backend.version == 0, "replayed chunks were trained"

    @asynchronous
    async def test_a_checkpoint_goes_on_exactly(self, make_backend: Build, model_folder: Path, tmp_path: Path) -> None:
        """Another instance does after `load` what this one does after `save`."""
        folder = tmp_path / "checkpoint"
        async with _started(make_backend(), model_folder) as backend:
            backend.begin("rl", optimizer_steps=4)
            await backend.step(self._credited(), _Reinforce())
            await backend.save(folder)
            assert (folder / "model").is_dir(), "a checkpoint holds the folder model/"
            expected = await backend.step(self._credited(3), _Reinforce())
            final = _tensors(backend)
        async with _started(make_backend(), model_folder) as other:
            await other.load(folder)
            assert other.version == 1
            report = await other.step(self._credited(3), _Reinforce())
            assert report.optimizer_steps == expected.optimizer_steps
            assert other.version == 2
            assert _tensors(other) == final, "the weights went another way after the checkpoint"

    @asynchronous
    async def test_a_step_moves_the_weights(self, make_backend: Build, model_folder: Path) -> None:
        """And what was published before stays as it was; a backend that hands over no tensors moves its version."""
        async with _started(make_backend(), model_folder) as backend:
            published = backend.weights()
            before = _tensors(backend)
            backend.begin("rl", optimizer_steps=1)
            await backend.step(self._credited(), _Reinforce())
            assert backend.weights().version > published.version, "a step left the version of the weights as it was"
            if published.tensors is None:
                return
            assert _tensors(backend) != before, "a step left every weight as it was"
            kept = {name: tensor.flatten().tolist() for name, tensor in published.tensors()}
            assert kept == before, "weights that were handed over changed afterwards"

    def _demonstrations(self) -> list[Trajectory]:
        return [
            sample_trajectory(f"shown-{index}", expert=True, first_token=index, vocabulary=self.vocabulary)
            for index in range(1, 4)
        ]

    def _credited(self, first: int = 1) -> list[CreditedTrajectory]:
        batch = []
        for index, credit in enumerate((1.0, -0.5, 0.25), first):
            trajectory = sample_trajectory(f"rolled-{index}", first_token=index, vocabulary=self.vocabulary)
            batch.append(CreditedTrajectory(trajectory=trajectory, credits=(credit,) * len(trajectory.chunks)))
        return batch


class _Reinforce:
    """Plain policy gradient; the rollouts are the suite's own."""

    update_rule = UpdateRule()
    tasks_per_step = 1
    wants_experts = False

    def plan(self, tasks: Sequence[Task], state: PlanState) -> RolloutPlan:
        return RolloutPlan(groups=tuple(PlannedGroup(task=task, size=1) for task in tasks))

    def credit(self, group: Group) -> Sequence[Sequence[float]]:
        return [[each.reward or 0.0] * len(each.chunks) for each in group.trajectories]

    def loss(self, batch: TokenBatch) -> LossOutput:
        inside = batch.chunk_of_token >= 0
        credit = batch.chunk_credit[batch.chunk_of_token[inside]]
        total = -(batch.policy_logprobs[inside] * credit).sum()
        return LossOutput(total=total, denominator=float(inside.sum()))


def _check(report: StepReport) -> None:
    assert report.optimizer_steps >= 1, "there was something to train"
    assert all(math.isfinite(value) for value in report.metrics.values()), f"metrics {report.metrics}"


def _tensors(backend: TrainingBackend) -> dict[str, object]:
    """Return the weights by name; none if the backend publishes in another way."""
    update = backend.weights()
    return {} if update.tensors is None else {name: each.flatten().tolist() for name, each in update.tensors()}


@asynccontextmanager
async def _started(backend: TrainingBackend, model: Path) -> AsyncIterator[TrainingBackend]:
    try:
        await backend.start(model, seed=0)
        yield backend
    finally:
        await backend.close()
