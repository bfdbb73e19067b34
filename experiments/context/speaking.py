"""The inference backend of the benchmark: it answers prompts by script and notes what was wrong with a prompt."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from experiments.context.grammar import facts_in
from experiments.context.policy import act
from experiments.context.summarising import Summariser, is_asked_to_sum_up
from experiments.context.words import WordTokenizer

from tumbler.contracts.inference import GenerateRequest, Generation, TextTokenizer, WeightUpdate
from tumbler.contracts.values import Message
from tumbler.errors import InferenceError

__all__ = ["ScriptedModel"]

_ANSWER: Final = "<tool_response>"
_CALL: Final = "<tool_call>"


class ScriptedModel:
    """Answers as the scripted policy, and as the scripted summariser where it is asked to sum up."""

    def __init__(self, tokenizer: WordTokenizer, *, facts: int, on_prompt: Callable[[Sequence[Message]], None]) -> None:
        """Keep so many `facts` in a summary; `on_prompt` is shown each prompt that is to be acted upon."""
        self._tokenizer = tokenizer
        self._summariser = Summariser(facts=facts, count=lambda text: len(tokenizer.encode(text)))
        self._on_prompt = on_prompt
        self.orphans = 0
        """Prompts that held an answer without the call that it answers, or began without system and task."""
        self.shown: set[str] = set()
        """The facts that any prompt told, to whatever end."""

    @property
    def tokenizer(self) -> TextTokenizer:
        """Return the tokenizer."""
        return self._tokenizer

    async def start(self, model: Path) -> None:
        """Need no model."""

    async def generate(self, request: GenerateRequest) -> Generation:
        """Answer the prompt; every token has the same probability."""
        try:
            text = self._reply(self._tokenizer.read(request.token_ids))
        except Exception as error:  # whatever the script stumbles over is to be seen as the episode's failure
            raise InferenceError(f"the scripted policy failed: {type(error).__name__}: {error}") from error
        token_ids = [*self._tokenizer.encode(text), self._tokenizer.end_of_turn]
        kept = token_ids[: request.sampling.max_tokens]
        return Generation(
            token_ids=tuple(kept),
            logprobs=(-1.0,) * len(kept),
            finish_reason="stop" if len(kept) == len(token_ids) else "length",
            policy_version=0,
        )

    def _reply(self, messages: Sequence[Message]) -> str:
        self.shown.update(str(fact) for message in messages for fact in facts_in(message.content))
        if is_asked_to_sum_up(messages):
            return self._summariser.write(messages)
        self.orphans += _is_broken(messages)
        self._on_prompt(messages)
        return act(messages)

    async def release(self, session: str) -> None:
        """Hold nothing."""

    async def update_weights(self, update: WeightUpdate) -> None:
        """Have no weights."""

    def metrics(self) -> Mapping[str, float]:
        """Count nothing."""
        return {}

    async def close(self) -> None:
        """Hold nothing."""


def _is_broken(messages: Sequence[Message]) -> bool:
    """Return whether a prompt lacks its opening, or shows more answers than calls."""
    if [message.role for message in messages[:2]] != ["system", "user"]:
        return True
    calls = answers = 0
    for message in messages[2:]:
        if message.role == "assistant":
            calls += message.content.count(_CALL)
        answers += message.content.startswith(_ANSWER)
        if answers > calls:
            return True
    return False
