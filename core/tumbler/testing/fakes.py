"""Stand-ins for tests without a GPU, a key or a network: they really do what the contracts say.

`CharacterTokenizer` and `ScriptedInference` stand in for a model, and `TwoStepEnvironment` for a task.
They belong in tests alone.
"""

import asyncio
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tumbler.config import Settings
from tumbler.contracts.environment import (
    EnvironmentCapabilities,
    ExpertAction,
    Observation,
    StepResult,
    Task,
    Verdict,
)
from tumbler.contracts.inference import GenerateRequest, Generation, TextTokenizer, WeightUpdate
from tumbler.contracts.sandbox import Sandbox, SandboxSpec
from tumbler.contracts.values import JSON, JSONObject, Message, ToolCall, ToolSpec
from tumbler.errors import InferenceError
from tumbler.seeding import derive_seed

__all__ = ["CharacterTokenizer", "ScriptedInference", "TwoStepEnvironment", "TwoStepSettings"]


class CharacterTokenizer:
    """One token for each character; a message is its role, a line break, its content, and U+0003."""

    end_of_turn = 3
    fingerprint = "characters"
    control_tokens = ("\x03",)

    def __init__(self, context_length: int = 4096) -> None:
        """Take prompts of up to `context_length` characters."""
        self._context_length = context_length

    @property
    def context_length(self) -> int:
        """Return the longest sequence, in characters."""
        return self._context_length

    def encode(self, text: str) -> list[int]:
        """Return the code points."""
        return [ord(character) for character in text]

    def encode_plain(self, text: str) -> list[int]:
        """Return the code points, the symbol for it in place of U+0003."""
        return [ord(character) if character != "\x03" else 0x2403 for character in text]

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text without U+0003."""
        return "".join(chr(token) for token in token_ids if token != self.end_of_turn)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """Return the conversation."""
        text = "".join(f"{message.role}\n{message.content}\x03" for message in messages)
        return text + "assistant\n" if add_generation_prompt else text


class ScriptedInference:
    """An inference backend whose policy is a function from the prompt's text to the reply's text.

    Log-probabilities are made from the request, so that equal requests give equal ones.
    """

    def __init__(self, policy: Callable[[str], str], tokenizer: TextTokenizer | None = None) -> None:
        """Answer with `policy`; an error that it raises becomes an `InferenceError`."""
        self._policy = policy
        self._tokenizer = tokenizer or CharacterTokenizer()
        self.version = 0
        self.requests: list[GenerateRequest] = []
        self.released: list[str] = []

    @property
    def tokenizer(self) -> TextTokenizer:
        """Return the tokenizer."""
        return self._tokenizer

    async def start(self, model: Path) -> None:
        """Need no model."""

    async def generate(self, request: GenerateRequest) -> Generation:
        """Answer the prompt."""
        self.requests.append(request)
        await asyncio.sleep(0)
        try:
            text = self._policy(self._tokenizer.decode(request.token_ids))
        except Exception as error:  # the policy is the test's own code
            raise InferenceError(f"the scripted policy failed: {error}") from error
        token_ids = [*self._tokenizer.encode(text), self._tokenizer.end_of_turn]
        kept = token_ids[: request.sampling.max_tokens]
        return Generation(
            token_ids=tuple(kept),
            logprobs=tuple(-((derive_seed(request.seed, index) % 1000) + 1) / 1000 for index in range(len(kept))),
            finish_reason="stop" if len(kept) == len(token_ids) else "length",
            policy_version=self.version,
        )

    async def release(self, session: str) -> None:
        """Note that the session is released."""
        self.released.append(session)

    async def update_weights(self, update: WeightUpdate) -> None:
        """Take the version."""
        self.version = update.version

    def metrics(self) -> Mapping[str, float]:
        """Return the number of requests."""
        return {"requests": float(len(self.requests))}

    async def close(self) -> None:
        """Hold nothing."""


class TwoStepSettings(Settings):
    """Settings of `TwoStepEnvironment`."""

    count: int = 1000
    """How many tasks each split has."""


class TwoStepEnvironment:
    """A task in two steps: read a word with the tool `look`, then say it with the tool `say`."""

    def __init__(self, settings: TwoStepSettings) -> None:
        """Keep the settings."""
        self._settings = settings
        self._word = ""
        self._said = ""

    @property
    def capabilities(self) -> EnvironmentCapabilities:
        """Need nothing."""
        return EnvironmentCapabilities()

    async def tasks(self, split: str, *, count: int, seed: int) -> Sequence[Task]:
        """Return tasks whose hidden word depends on split, seed and index."""
        return [
            Task(id=f"{split}-{seed}-{index}", instruction="Look, then say the word.", split=split)
            for index in range(min(count, self._settings.count))
        ]

    def tools(self) -> Sequence[ToolSpec]:
        """Return `look` and `say`."""
        say: JSONObject = {"type": "object", "properties": {"word": {"type": "string"}}}
        return [
            ToolSpec(name="look", description="Shows the word."),
            ToolSpec(name="say", description="Says a word.", parameters=say),
        ]

    def sandbox_spec(self, task: Task) -> SandboxSpec | None:
        """Need no sandbox."""
        return None

    async def reset(self, task: Task, *, seed: int, sandbox: Sandbox | None) -> Observation:
        """Choose the word."""
        self._word = hashlib.sha256(f"{task.id}/{seed}".encode()).hexdigest()[:4]
        self._said = ""
        return Observation(text="The room is dark.")

    async def step(self, call: ToolCall) -> StepResult:
        """Show the word, or take what is said and end the episode."""
        if call.name == "look":
            return StepResult(observation=f"word: {self._word}")
        if call.name == "say":
            self._said = str(call.arguments.get("word", ""))
            return StepResult(observation="said", terminated=True)
        return StepResult(observation=f"no tool {call.name}", errored=True)

    async def verify(self) -> Verdict:
        """Judge what was said."""
        success = self._said == self._word
        return Verdict(reward=float(success), success=success)

    async def close(self) -> None:
        """Hold nothing."""

    async def state(self) -> JSON:
        """Return what was said."""
        return {"said": self._said}

    async def resume(self, task: Task, *, seed: int, sandbox: Sandbox | None, state: JSON) -> None:
        """Go on where that had been said."""
        await self.reset(task, seed=seed, sandbox=sandbox)
        self._said = str(state["said"]) if isinstance(state, Mapping) else ""

    async def fingerprint(self) -> str:
        """Return a digest of the word and of what was said."""
        return hashlib.sha256(f"{self._word}/{self._said}".encode()).hexdigest()

    def expert(self, task: Task, *, seed: int) -> "TwoStepExpert":
        """Return an expert that looks and says."""
        return TwoStepExpert()


class TwoStepExpert:
    """Solves `TwoStepEnvironment` in two actions."""

    def act(self, observation: str) -> ExpertAction | None:
        """Return the next action."""
        if observation.startswith("word: "):
            word = observation.removeprefix("word: ")
            return ExpertAction(call=ToolCall(name="say", arguments={"word": word}))
        return None if observation == "said" else ExpertAction(call=ToolCall(name="look"))
