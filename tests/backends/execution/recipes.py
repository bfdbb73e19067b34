"""What worker processes are given in these tests: episodes that tell what they do in a file, and engines that wait."""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tumbler.contracts.algorithm import Algorithm
from tumbler.contracts.batch import CreditedTrajectory
from tumbler.contracts.execution import Engines, EpisodeRunner, PlacedRole, RolloutRequest
from tumbler.contracts.inference import GenerateRequest, Generation, InferenceBackend, Sampling, WeightUpdate
from tumbler.contracts.training import StepReport
from tumbler.contracts.values import JSONObject
from tumbler.errors import ContextPlanError, ContractError, InferenceError, RunFolderError
from tumbler.testing import sample_task, sample_trajectory
from tumbler.testing.fakes import ScriptedInference
from tumbler.trajectory.record import Chunk, Trajectory


@dataclass(frozen=True, kw_only=True)
class Diary:
    """A file to which several processes write lines, one at a time."""

    path: Path

    def note(self, *words: object) -> None:
        with self.path.open("a") as file:
            file.write(" ".join(map(str, words)) + "\n")

    def lines(self, first: str) -> list[list[str]]:
        """Return the words after `first` of the lines that begin with it."""
        words = [line.split() for line in self.path.read_text().splitlines()] if self.path.exists() else []
        return [each[1:] for each in words if each[0] == first]

    async def until(self, condition: Callable[["Diary"], bool], seconds: float = 60) -> None:
        async with asyncio.timeout(seconds):
            while not condition(self):
                await asyncio.sleep(0.02)


class Foreign(Exception):
    """An error that does not survive pickling."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


class ForeignInference(InferenceError):
    """One of a class that only a plugin has, which does not survive pickling either."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Episodes by the kind that their request's group names; each line of the diary ends in the process's id."""

    diary: Diary
    refuses: str = ""
    """The error of `open`."""

    def open(self, engines: Engines) -> AbstractAsyncContextManager[EpisodeRunner]:
        return self._open(engines)

    @asynccontextmanager
    async def _open(self, engines: Engines) -> AsyncIterator[EpisodeRunner]:
        if self.refuses:
            raise ContractError(self.refuses)
        self.diary.note("opened", os.getpid())
        try:
            yield Episodes(self.diary, engines)
        finally:
            await asyncio.sleep(0.01)
            self.diary.note("left", os.getpid())


@dataclass
class Episodes:
    diary: Diary
    engines: Engines

    async def __call__(self, request: RolloutRequest) -> Trajectory:
        self.diary.note("begun", request.id, os.getpid())
        try:
            trajectory = await getattr(self, request.group)(request)
        except asyncio.CancelledError:
            await asyncio.sleep(0.01)
            self.diary.note("cleaned", request.id, os.getpid())
            raise
        self.diary.note("finished", request.id, os.getpid())
        return trajectory

    async def quick(self, request: RolloutRequest) -> Trajectory:
        return sample_trajectory(request.id, task=request.task)

    async def shuffled(self, request: RolloutRequest) -> Trajectory:
        await asyncio.sleep(0.003 * (-int(request.id.rpartition("-")[2]) % 7))
        return sample_trajectory(request.id, task=request.task)

    async def slow(self, request: RolloutRequest) -> Trajectory:
        await asyncio.sleep(0.2 + 0.05 * (request.seed % 7))
        return sample_trajectory(request.id, task=request.task)

    async def waiting(self, request: RolloutRequest) -> Trajectory:
        await asyncio.sleep(1000)
        raise AssertionError("nobody cancelled the episode")

    async def asking(self, request: RolloutRequest) -> Trajectory:
        engine = self.engines.policy if request.source == "policy" else self.engines.teacher
        assert engine is not None
        prompt = tuple(engine.tokenizer.encode(request.task.instruction))
        generation = await engine.generate(
            GenerateRequest(token_ids=prompt, sampling=request.sampling, seed=request.seed, session=request.id)
        )
        await engine.release(request.id)
        trajectory = sample_trajectory(request.id, task=request.task)
        reply = engine.tokenizer.decode(generation.token_ids)
        details = {"reply": reply, "version": generation.policy_version, "metrics": dict(engine.metrics())}
        return Trajectory(header=trajectory.header, details=details)

    async def wrong(self, request: RolloutRequest) -> Trajectory:
        raise ContextPlanError("scripted", check="size")

    async def foreign(self, request: RolloutRequest) -> Trajectory:
        raise Foreign("one", "two")

    async def deadly(self, request: RolloutRequest) -> Trajectory:
        sys.stderr.write(f"{request.id} is about to die\n")
        os._exit(17)

    async def busy(self, request: RolloutRequest) -> Trajectory:
        time.sleep(1000)  # noqa: ASYNC251  # that is the fault
        raise AssertionError("nobody ended the process")


def request(name: str, group: str = "quick", seed: int = 1, source: str = "policy") -> RolloutRequest:
    return RolloutRequest(
        id=name,
        task=sample_task(),
        seed=seed,
        group=group,
        sampling=Sampling(),
        env="sample",
        source=source,  # type: ignore[arg-type]  # one of the three
    )


class WaitingInference(ScriptedInference):
    """Answers when `open` is set."""

    def __init__(self) -> None:
        super().__init__(lambda prompt: prompt.upper())
        self.open = asyncio.Event()
        self.begun = asyncio.Event()
        self.cancelled = 0

    async def generate(self, request: GenerateRequest) -> Generation:
        self.begun.set()
        try:
            await self.open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await super().generate(request)


@dataclass(frozen=True, kw_only=True)
class EngineRecipe:
    """An engine that tells what it does in a diary."""

    diary: Diary
    role: PlacedRole = "inference"
    resume: str = "tumbler run --resume here"
    refuses: str = ""

    def build(self) -> object:
        if self.refuses:
            raise ContractError(self.refuses)
        return ToldTraining(self.diary) if self.role == "training" else ToldInference(self.diary)


class ToldInference(ScriptedInference):
    """Answers prompts in capitals, waits for ever for a seed of 13, and fails in its own way for one of 14."""

    def __init__(self, diary: Diary) -> None:
        super().__init__(lambda prompt: prompt.upper())
        self._diary = diary

    async def start(self, model: Path) -> None:
        self._diary.note("engine", os.getpid())

    async def generate(self, request: GenerateRequest) -> Generation:
        if request.seed == 14:
            raise ForeignInference("out of", " luck")
        if request.seed == 13:
            self._diary.note("asked", request.session, os.getpid())
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                self._diary.note("unasked", request.session, os.getpid())
                raise
        return await super().generate(request)

    async def update_weights(self, update: WeightUpdate) -> None:
        names = (
            [] if update.tensors is None else [f"{name}={tensor.sum().item():g}" for name, tensor in update.tensors()]
        )
        self._diary.note("weights", update.version, os.getpid(), *names)
        await super().update_weights(update)

    async def release(self, session: str) -> None:
        self._diary.note("released", session, os.getpid())


class ToldTraining:
    """A trainer whose weights are one number under two names, as large as its version."""

    def __init__(self, diary: Diary) -> None:
        self._diary = diary
        self.version = 0

    async def start(self, model: Path, *, seed: int) -> None:
        self._diary.note("trainer", os.getpid(), seed)

    def begin(self, phase: str, *, optimizer_steps: int) -> None:
        self._diary.note("phase", phase, optimizer_steps)

    async def fit_sft(self, batch: Sequence[Trajectory]) -> StepReport:
        self.version += 1
        return StepReport(optimizer_steps=1, metrics={"given": float(len(batch))})

    async def step(self, batch: Sequence[CreditedTrajectory], algorithm: Algorithm) -> StepReport:
        if not batch:
            os._exit(9)
        self.version += 1
        return StepReport(optimizer_steps=1, metrics={algorithm.update_rule.old_policy: float(len(batch))})

    def weights(self) -> WeightUpdate:
        import torch  # seconds, which most workers need not spend

        weight = torch.full((3, 2), self.version, dtype=torch.bfloat16)
        return WeightUpdate(version=self.version, tensors={"one": weight, "tied": weight}.items)

    async def save(self, folder: Path) -> None:
        folder.mkdir(parents=True)

    async def load(self, folder: Path) -> None:
        raise RunFolderError(f"{folder} holds nothing")

    async def close(self) -> None:
        self._diary.note("closed", os.getpid())


def scripted(version: int = 3) -> InferenceBackend:
    engine = ScriptedInference(lambda prompt: prompt.upper())
    engine.version = version
    return engine


@dataclass(frozen=True, kw_only=True)
class Rolled:
    """What came of a run."""

    results: JSONObject
    trajectories: dict[str, Trajectory]

    def decided(self) -> dict[str, object]:
        """Return of each trajectory what its seeds decide."""
        return {
            name: (each.header, each.segments, [_without_logprobs(chunk) for chunk in each.chunks], each.reward)
            for name, each in self.trajectories.items()
        }

    def logprobs(self) -> list[float]:
        """Return all log-probabilities; their last bits depend on what is computed beside them."""
        ordered = sorted(self.trajectories.items())
        return [value for _, each in ordered for chunk in each.chunks for value in chunk.behaviour_logprobs]


def _without_logprobs(chunk: Chunk) -> Chunk:
    return replace(chunk, behaviour_logprobs=())
