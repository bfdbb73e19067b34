"""A local model as the mind of a conversation: its own tokenizer counts, and every call is recorded as in training."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from tumbler import __version__
from tumbler.cli.agents.minds import CONVERSATION, Beginning, Thought
from tumbler.contracts.environment import EnvironmentCapabilities, Observation, StepResult, Task, Verdict
from tumbler.contracts.inference import InferenceBackend, Sampling
from tumbler.contracts.sandbox import Sandbox, SandboxSpec
from tumbler.contracts.values import ToolCall, ToolSpec
from tumbler.errors import ContractError
from tumbler.rollout.context import StrategyPipeline
from tumbler.rollout.context.files import SandboxFiles
from tumbler.rollout.episode import PhaseClock, RecordedModel, RecordedTools, whole_room
from tumbler.rollout.recorder import Recorder
from tumbler.rollout.sources import PolicySource
from tumbler.trajectory import Component, Header, Trajectory, trajectory_to_json

__all__ = ["LocalMind"]

_STAGE: Final = "conversation"


@dataclass(frozen=True, kw_only=True)
class LocalMind:
    """A model in this process, behind an inference backend that is started."""

    inference: InferenceBackend
    name: str
    sampling: Sampling
    agent: Component
    context: tuple[Component, ...]
    window_source: str = "the model's own"
    clear_at_least: int = 0
    """Tokens that a rewrite of the context must free; as in training."""

    @property
    def window(self) -> int:
        """Return the tokenizer's."""
        return self.inference.tokenizer.context_length

    def begin(self, beginning: Beginning) -> Thought:
        """Begin a conversation, and its record."""
        recorder = Recorder(self.inference.tokenizer)
        clock = PhaseClock()
        tools = RecordedTools(_NoEnvironment(), recorder, clock, None, None)
        room = self.sampling.max_tokens
        model = RecordedModel(
            PolicySource(self.inference, self.sampling, beginning.seed),
            recorder,
            clock,
            episode=beginning.name,
            room=whole_room(self.window - room),
        )
        context = StrategyPipeline(
            beginning.strategies,
            self.inference.tokenizer,
            room=room,
            task=CONVERSATION,
            seed=beginning.seed,
            clear_at_least=self.clear_at_least,
            model=partial(model.generate, cause="strategy"),
            files=None if beginning.sandbox is None else SandboxFiles(beginning.sandbox),
            on_refused_call=recorder.withhold,
        )
        tools.offer(context)
        model.attend(context)
        keep = partial(self._keep, recorder, clock, beginning, context)
        return Thought(model=model, context=context, tools=tools, keep=keep)

    def advice(self, problem: str) -> str:
        """Have nothing to say."""
        return ""

    async def close(self) -> None:
        """Let go of the engine."""
        await self.inference.close()

    def _keep(
        self, recorder: Recorder, clock: PhaseClock, beginning: Beginning, context: StrategyPipeline, folder: Path
    ) -> None:
        """Write the record as the one trajectory of a stage of its own, where `tumbler export` finds it."""
        if not recorder.chunks:
            return
        place = folder / "stages" / beginning.name
        place.mkdir(parents=True, exist_ok=True)
        line = json.dumps(trajectory_to_json(self._trajectory(recorder, clock, beginning, context)))
        beside = place / ".trajectories.jsonl"
        beside.write_text(f"{line}\n", encoding="utf-8")
        beside.replace(place / "trajectories.jsonl")

    def _trajectory(
        self, recorder: Recorder, clock: PhaseClock, beginning: Beginning, context: StrategyPipeline
    ) -> Trajectory:
        first = next((each.message.content for each in context.entries if each.message.role == "user"), "")
        return Trajectory(
            header=Header(
                id=beginning.name,
                task=CONVERSATION.id,
                env=Component(id=_STAGE, version=__version__, settings_hash=""),
                agent=self.agent,
                context=self.context,
                seed=beginning.seed,
                tokenizer=self.inference.tokenizer.fingerprint,
                temperature=self.sampling.temperature,
                isolation=None if beginning.sandbox is None else beginning.sandbox.tier,
            ),
            segments=recorder.segments,
            chunks=recorder.chunks,
            status="dropped",
            status_reason="a conversation with a person, which nothing judges",
            seconds=dict(clock.seconds),
            details={} if beginning.resumed else {"instruction": first},
        )


class _NoEnvironment:
    """What stands where an episode has its environment: no tools, and nothing to judge."""

    capabilities = EnvironmentCapabilities()

    async def tasks(self, split: str, *, count: int, seed: int) -> Sequence[Task]:
        return []

    def tools(self) -> Sequence[ToolSpec]:
        return []

    def sandbox_spec(self, task: Task) -> SandboxSpec | None:
        return None

    async def reset(self, task: Task, *, seed: int, sandbox: Sandbox | None) -> Observation:
        return Observation()

    async def step(self, call: ToolCall) -> StepResult:
        raise ContractError(f"a conversation has no environment that could answer a call of {call.name!r}")

    async def verify(self) -> Verdict:
        raise ContractError("a conversation has no environment that could judge it")

    async def close(self) -> None:
        return
