"""Prepares the model folders that a run starts from, with sample demonstrations for sources that want them."""

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from tumbler.contracts.agent import Demonstrator
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import Sampling
from tumbler.contracts.model import ModelSource
from tumbler.contracts.sandbox import SandboxBackend
from tumbler.contracts.values import Message
from tumbler.errors import RunError, TumblerError
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedComponent, ResolvedRun
from tumbler.rollout.runner import LocalEpisodeRunner, NamedEnvironment
from tumbler.run.assembly import environment_key, episode_parts
from tumbler.run.folder import RunFolder, RunState
from tumbler.seeding import derive_seed

__all__ = ["ModelMaker"]

_SAMPLES = 256
"""Demonstrations shown to a model source; enough for every common word of an environment to occur often."""
_AT_ONCE = 32
"""Demonstrations made at a time; each may hold a sandbox."""


class ModelMaker:
    """Prepares model folders, each once for the run; what it has prepared is in the run's state."""

    def __init__(
        self,
        resolved: ResolvedRun,
        folder: RunFolder,
        state: RunState,
        host: PluginHost,
        environments: dict[str, NamedEnvironment],
        sandboxes: SandboxBackend | None,
    ) -> None:
        """Prepare what `resolved` names in `folder`."""
        self._resolved = resolved
        self._folder = folder
        self._state = state
        self._host = host
        self._environments = environments
        self._sandboxes = sandboxes

    async def model(self) -> Path:
        """Return the model folder that the run starts from; an empty one if the run names no model."""
        if self._state.model is not None:
            return Path(self._state.model)
        if self._resolved.model is None:
            place = self._folder.path / "model"
            place.mkdir(exist_ok=True)
            return place
        prepared = await self._prepare(self._resolved.model, "model")
        self._state.model = str(prepared.resolve())
        self._folder.write_state(self._state)
        return prepared

    async def teacher(self) -> Path:
        """Return the teacher's model folder; the one that the run starts from if the run names none for it."""
        component = self._resolved.rl.experts.teacher_model
        if component is None:
            return await self.model()
        if self._state.teacher is not None:
            return Path(self._state.teacher)
        prepared = await self._prepare(component, "teacher")
        self._state.teacher = str(prepared.resolve())
        self._folder.write_state(self._state)
        return prepared

    async def _prepare(self, component: ResolvedComponent, name: str) -> Path:
        place = self._folder.path / name
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        source = cast("ModelSource", component.build(self._host))
        loop = asyncio.get_running_loop()
        texts = _Demonstrations(self._resolved, self._host, self._environments, self._sandboxes, loop)
        # One seed for both: sources that make a tokenizer from the texts then make the same one.
        seed = derive_seed(self._resolved.seed, "model") % 2**31
        try:
            return await asyncio.to_thread(source.prepare, place, texts=texts, seed=seed)
        except TumblerError:
            raise
        # Model sources are third-party code, and what they write with tells of a full disk in errors of its own.
        except Exception as error:
            raise RunError(
                f"the model source {component.id!r} could not prepare {place}: {type(error).__name__}: {error}"
            ) from error


class _Demonstrations:
    """Sample demonstrations as plain text, made when they are first asked for; none if the agent can give none."""

    def __init__(
        self,
        resolved: ResolvedRun,
        host: PluginHost,
        environments: dict[str, NamedEnvironment],
        sandboxes: SandboxBackend | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._resolved = resolved
        self._host = host
        self._environments = environments
        self._sandboxes = sandboxes
        self._loop = loop

    def __iter__(self) -> Iterator[str]:
        """Yield one text for each demonstration; called in a worker thread."""
        return iter(asyncio.run_coroutine_threadsafe(self._gather(), self._loop).result())

    async def _gather(self) -> list[str]:
        env = self._resolved.sft.env
        parts = episode_parts(
            self._resolved,
            self._host,
            self._environments,
            tokenizer=_BytesAsTokens(),
            inference=None,
            sandboxes=self._sandboxes,
        )
        if not isinstance(parts.agent, Demonstrator):
            return []
        runner = LocalEpisodeRunner(parts)
        seed = derive_seed(self._resolved.seed, "samples")
        key = environment_key(env)
        tasks = await self._environments[key].build().tasks("train", count=_SAMPLES, seed=seed)
        requests = [
            RolloutRequest(
                id=f"sample-{index}",
                task=task,
                seed=derive_seed(seed, index),
                env_seed=derive_seed(self._resolved.seed, "env", task.id),
                group="samples",
                sampling=Sampling(max_tokens=1),
                env=key,
                source="expert",
            )
            for index, task in enumerate(tasks)
        ]
        places = asyncio.Semaphore(_AT_ONCE)

        async def sample(request: RolloutRequest) -> list[str]:
            async with places:
                trajectory = await runner(request)
            return [bytes(segment.token_ids).decode(errors="replace") for segment in trajectory.segments]

        return [text for texts in await asyncio.gather(*map(sample, requests)) for text in texts]


class _BytesAsTokens:
    """A tokenizer for the time before there is one: bytes, and messages one below the other."""

    fingerprint = "bytes"
    end_of_turn = ord("\n")
    context_length = 1 << 30

    def encode(self, text: str) -> list[int]:
        """Return the text's bytes."""
        return list(text.encode())

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the bytes' text."""
        return bytes(token_ids).decode(errors="replace")

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """Return the contents, a line break after each."""
        return "".join(f"{message.content}\n" for message in messages)
