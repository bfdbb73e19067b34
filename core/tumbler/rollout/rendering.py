"""Conversations to token ids; a running conversation is extended by its new tail alone.

Sampled ids are never made again from text: after a reply only what follows it is rendered, with a proof
that the chat template really appends. Knows no episode.
"""

from collections.abc import Sequence

from tumbler.contracts.inference import TextTokenizer
from tumbler.contracts.values import Message

__all__ = ["Renderer"]

_QUESTION = Message(role="user", content="question")
_ANSWER = "bridge-answer"


class Renderer:
    """Renders prompts and tails with one tokenizer."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        """Keep the tokenizer; the closing of a dummy exchange is rendered once."""
        self._tokenizer = tokenizer
        self._stem: str | None = None

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of the whole conversation, up to where the assistant is to speak."""
        return self._tokenizer.encode(self._tokenizer.render(messages, add_generation_prompt=True))

    def tail(self, messages: Sequence[Message], *, last_token: int) -> list[int] | None:
        """Return the ids that follow a reply when `messages` come after it.

        `last_token` is the reply's last id: a reply that stopped by itself already holds the end of
        its turn. None means that the template does not append, so that a new segment is needed.
        """
        stem = self._closed_exchange()
        exchange = (_QUESTION, Message(role="assistant", content=_ANSWER), *messages)
        text = self._tokenizer.render(exchange, add_generation_prompt=True)
        if not text.startswith(stem) or _ANSWER not in stem:
            return None
        answered = stem.rindex(_ANSWER) + len(_ANSWER)
        token_ids = self._tokenizer.encode(text[answered:])
        if last_token == self._tokenizer.end_of_turn:
            if not token_ids or token_ids[0] != last_token:
                return None
            del token_ids[0]
        return token_ids

    def _closed_exchange(self) -> str:
        if self._stem is None:
            exchange = (_QUESTION, Message(role="assistant", content=_ANSWER))
            self._stem = self._tokenizer.render(exchange, add_generation_prompt=False)
        return self._stem
