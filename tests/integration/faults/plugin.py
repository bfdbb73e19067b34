"""A plugin of the tests, installed into a folder of its own: parts of a run that go wrong when they are told to.

A fault is ordered by an empty file in the folder that `TUMBLER_FAULTS` names. A part that comes to the point of
that name lays a file `POINT.reached` beside it and waits there until the order is taken back, or does what it says.
"""

import asyncio
import hashlib
import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tumbler import hookimpl
from tumbler.config import Settings
from tumbler.contracts.algorithm import Algorithm
from tumbler.contracts.batch import CreditedTrajectory
from tumbler.contracts.environment import StepResult, Verdict
from tumbler.contracts.inference import GenerateRequest, Generation, WeightUpdate
from tumbler.contracts.training import Phase, StepReport
from tumbler.contracts.values import ToolCall
from tumbler.seeding import derive_seed
from tumbler.specs import AlgorithmSpec, BackendSpec, EnvironmentSpec, ModelSpec
from tumbler.testing.fakes import ScriptedInference, TwoStepEnvironment, TwoStepSettings
from tumbler.trajectory import Trajectory

if TYPE_CHECKING:
    from tumbler.contracts.batch import LossOutput, TokenBatch


def ordered(point: str) -> bool:
    """Return whether a fault is ordered at the point, and note that it was reached."""
    order = Path(os.environ["TUMBLER_FAULTS"]) / point
    if order.exists():
        order.with_name(f"{point}.reached").touch()
        return True
    return False


async def hold(point: str) -> None:
    """Wait for as long as the point is ordered."""
    while ordered(point):
        await asyncio.sleep(0.02)


def hold_thread(point: str) -> None:
    """Keep the thread waiting for as long as the point is ordered."""
    while ordered(point):
        time.sleep(0.02)


class WordsSettings(TwoStepSettings):
    pace: float = 0.0
    """Seconds that each step takes."""
    every_other: bool = False
    """Whether every other episode is a success, whatever the policy does: a model without skill has a gradient then."""


class Words(TwoStepEnvironment):
    built = 0

    def __init__(self, settings: WordsSettings) -> None:
        super().__init__(settings)
        self._pace, self._every_other = settings.pace, settings.every_other
        Words.built += 1
        self._lucky = Words.built % 2 == 0

    async def step(self, call: ToolCall) -> StepResult:
        await asyncio.sleep(self._pace)
        await hold("step")
        return await super().step(call)

    async def verify(self) -> Verdict:
        if self._every_other:
            return Verdict(reward=float(self._lucky), success=self._lucky)
        return await super().verify()


class ScriptSettings(Settings):
    hopeless: bool = False
    """Whether it never says the word."""
    hang_one_in: int = 3
    """One in so many requests comes to the points `generate-VERSION` and `block-VERSION`, by its seed; the latter
    holds a thread, which nobody can cancel."""


class Script(ScriptedInference):
    """Says the right word or another, by the request's seed and the version that answers."""

    def __init__(self, settings: ScriptSettings) -> None:
        super().__init__(str)
        self._settings = settings

    async def generate(self, request: GenerateRequest) -> Generation:
        version, asked = self.version, derive_seed(request.seed, self.version)
        if asked % self._settings.hang_one_in == 0:
            await hold(f"generate-{version}")
            await asyncio.to_thread(hold_thread, f"block-{version}")
        last = self.tokenizer.decode(request.token_ids).rsplit("user\n", 1)[-1].removesuffix("assistant\n").strip()
        text = "@look"
        if last.startswith("word: "):
            right = not self._settings.hopeless and asked % 2
            text = "@say " + json.dumps({"word": last.removeprefix("word: ") if right else "wrong"})
        ids = (*self.tokenizer.encode(text), self.tokenizer.end_of_turn)
        return Generation(
            token_ids=ids, logprobs=tuple(-0.5 for _ in ids), finish_reason="stop", policy_version=version
        )

    async def update_weights(self, update: WeightUpdate) -> None:
        await hold(f"update-{update.version}")
        await super().update_weights(update)


class Trainer:
    """Keeps a book of all that it is given: as good as weights for what is lost and what is used twice."""

    def __init__(self, settings: Settings) -> None:
        self._book: dict[str, Any] = {"version": 0, "phase": "", "seen": [], "weights": ""}

    async def start(self, model: Path, *, seed: int) -> None: ...

    def begin(self, phase: Phase, *, optimizer_steps: int) -> None:
        self._book["phase"] = phase

    async def fit_sft(self, batch: Sequence[Trajectory]) -> StepReport:
        raise AssertionError("the runs of these tests have no demonstrations")

    async def step(self, batch: Sequence[CreditedTrajectory], algorithm: Algorithm) -> StepReport:
        await hold(f"before-training-{self.version}")
        book = self._book
        for each in batch:
            book["seen"].append(each.trajectory.id)
            learnt = [book["weights"], each.trajectory.segments[0].token_ids, list(each.credits)]
            book["weights"] = hashlib.sha256(json.dumps(learnt).encode()).hexdigest()
        book["version"] += 1
        await hold(f"trained-{self.version}")
        return StepReport(optimizer_steps=1, metrics={"train/loss": 1.0})

    @property
    def version(self) -> int:
        return int(self._book["version"])

    def weights(self) -> WeightUpdate:
        return WeightUpdate(version=self.version)

    async def save(self, folder: Path) -> None:
        partial = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        text = json.dumps(self._book)
        (partial / "state.json").write_text(text[: len(text) // 2])
        await hold(f"half-saved-{self.version}")
        (partial / "state.json").write_text(text)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
        await hold(f"saved-{self.version}")

    async def load(self, folder: Path) -> None:
        self._book = json.loads((folder / "state.json").read_text())

    async def close(self) -> None: ...


class NoModel:
    def __init__(self, settings: Settings) -> None: ...

    def prepare(self, folder: Path, *, texts: object, seed: int) -> Path:
        (folder / "none.txt").write_text("a script needs no model")
        return folder


def _torch() -> Any:
    """Return PyTorch's trainer with points in it: the real one otherwise."""
    import torch

    from tumbler_backends.training.torch.backend import TorchTraining

    class Torch(TorchTraining):
        async def step(self, batch: Sequence[CreditedTrajectory], algorithm: Any) -> StepReport:
            await hold(f"before-training-{self.version}")
            algorithm.breaks = ordered(f"nan-{self.version}")
            algorithm.holds = f"in-step-{self.version}"
            return await super().step(batch, algorithm)

        async def save(self, folder: Path) -> None:
            await hold(f"before-saving-{self.version}")
            if not ordered(f"half-saved-{self.version}"):
                return await super().save(folder)
            save, version = torch.save, self.version

            def save_half(state: object, file: Path) -> None:
                save(state, file)
                os.truncate(file, file.stat().st_size // 2)
                hold_thread(f"half-saved-{version}")

            torch.save = save_half
            return await super().save(folder)

    return Torch


def _torch_settings() -> Any:
    from tumbler_backends.training.torch.settings import TorchTrainingSettings

    return TorchTrainingSettings


def _grpo() -> Any:
    from tumbler_algorithms.grpo.algorithm import GRPO

    class Breaking(GRPO):
        """GRPO whose loss is not a number where that is ordered."""

        breaks = False
        holds = ""

        def loss(self, batch: "TokenBatch") -> "LossOutput":
            from dataclasses import replace

            hold_thread(self.holds)
            output = super().loss(batch)
            return replace(output, total=output.total * float("nan")) if self.breaks else output

    return Breaking


def _grpo_settings() -> Any:
    from tumbler_algorithms.grpo.settings import GRPOSettings

    return GRPOSettings


def _is(value: Any) -> Any:
    return lambda: value


@hookimpl
def tumbler_environments() -> list[EnvironmentSpec]:
    return [EnvironmentSpec(name="words", summary="Two steps.", load=_is(Words), config=_is(WordsSettings))]


@hookimpl
def tumbler_algorithms() -> list[AlgorithmSpec]:
    return [AlgorithmSpec(name="grpo", summary="GRPO that breaks.", load=_grpo, config=_grpo_settings)]


@hookimpl
def tumbler_models() -> list[ModelSpec]:
    return [ModelSpec(name="none", summary="No model.", load=_is(NoModel), config=_is(Settings))]


@hookimpl
def tumbler_backends() -> list[BackendSpec]:
    return [
        BackendSpec(
            name="script", summary="A script.", load=_is(Script), config=_is(ScriptSettings), roles=("inference",)
        ),
        BackendSpec(name="book", summary="A book.", load=_is(Trainer), config=_is(Settings), roles=("training",)),
        BackendSpec(
            name="torch", summary="PyTorch with points.", load=_torch, config=_torch_settings, roles=("training",)
        ),
    ]
