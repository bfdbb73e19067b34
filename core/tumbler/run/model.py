"""Prepares the model folder that a run starts from, with sample demonstrations for sources that want them."""

import asyncio
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import Sampling
from tumbler.contracts.model import ModelSource
from tumbler.contracts.sandbox import SandboxBackend
from tumbler.contracts.values import Message
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun
from tumbler.rollout.runner import LocalEpisodeRunner, NamedEnvironment
from tumbler.run.assembly import environment_key, episode_parts
from tumbler.run.folder import RunFolder, RunState
from tumbler.seeding import derive_seed

__all__ = ["prepare_model"]

_SAMPLES = 256
"""Demonstrations shown to a model source; enough for every common word of an environment to occur often."""
_AT_ONCE = 32
"""Demonstrations made at a time; each may hold a sandbox."""


async def prepare_model(
    resolved: ResolvedRun,
    folder: RunFolder,
    state: RunState,
    host: PluginHost,
    environments: dict[str, NamedEnvironment],
    sandboxes: SandboxBackend | None,
) -> Path:
    """Return the model folder, prepared once for the run; an empty one if the run names no model."""
    if state.model is not None:
        return Path(state.model)
    place = folder.path / "model"
    if resolved.model is None:
        place.mkdir(exist_ok=True)
        return place
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    source = cast("ModelSource", resolved.model.build(host))
    texts = _Demonstrations(resolved, host, environments, sandboxes, asyncio.get_running_loop())
    seed = derive_seed(resolved.seed, "model") % 2**31
    prepared = await asyncio.to_thread(source.prepare, place, texts=texts, seed=seed)
    state.model = str(prepared.resolve())
    folder.write_state(state)
    return prepared


class _Demonstrations:
    """Sample demonstrations as plain text, made when they are first asked for."""

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
