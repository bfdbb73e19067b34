"""Conversations to token ids; a running conversation is extended by its new tail alone.

Sampled ids are never made again from text: after a reply only what follows it is rendered, with a proof that the chat
template really appends. Control tokens that stand in the words of a message stay words. Knows no episode.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from tumbler.contracts.inference import PlainTokenizer, TextTokenizer
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
        messages, words = self._without_control(messages)
        return self._encode(self._tokenizer.render(messages, add_generation_prompt=True), words)

    def tail(self, messages: Sequence[Message], *, last_token: int) -> list[int] | None:
        """Return the ids that follow a reply when `messages` come after it.

        `last_token` is the reply's last id: a reply that stopped by itself already holds the end of
        its turn. None means that the template does not append, so that a new segment is needed.
        """
        stem = self._closed_exchange()
        messages, words = self._without_control(messages)
        exchange = (_QUESTION, Message(role="assistant", content=_ANSWER), *messages)
        text = self._tokenizer.render(exchange, add_generation_prompt=True)
        if not text.startswith(stem) or _ANSWER not in stem:
            return None
        answered = stem.rindex(_ANSWER) + len(_ANSWER)
        token_ids = self._encode(text[answered:], words)
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

    def _without_control(self, messages: Sequence[Message]) -> tuple[Sequence[Message], Mapping[str, str]]:
        """Put a marker in place of each content that spells a control token: marker → content."""
        if not isinstance(self._tokenizer, PlainTokenizer):
            return messages, {}
        control = self._tokenizer.control_tokens
        spelling = [
            index for index, each in enumerate(messages) if any(token and token in each.content for token in control)
        ]
        if not spelling:
            return messages, {}
        everything = "\n".join(message.content for message in messages)
        stem = next(word for word in _markers() if word not in everything)
        words = {f"{stem}{index}z": messages[index].content for index in spelling}
        shown = list(messages)
        for marker, index in zip(words, spelling, strict=True):
            shown[index] = replace(messages[index], content=marker)
        return shown, words

    def _encode(self, text: str, words: Mapping[str, str]) -> list[int]:
        tokenizer = self._tokenizer
        if not words or not isinstance(tokenizer, PlainTokenizer):
            return tokenizer.encode(text)
        token_ids: list[int] = []
        for marker, content in words.items():
            before, _, text = text.partition(marker)
            token_ids += tokenizer.encode(before)
            token_ids += tokenizer.encode_plain(content)
        return token_ids + tokenizer.encode(text)


def _markers() -> Iterator[str]:
    number = 0
    while True:
        yield f"words{number}q"
        number += 1
