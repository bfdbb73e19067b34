"""A tokenizer of words for scripted policies: quick, exact, and it gives messages back; knows no model."""

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

from tumbler.contracts.values import Message, Role

__all__ = ["WordTokenizer"]

_PIECES: Final = re.compile(r"\x03|</?[a-z_]+>| ?[A-Za-z]+| ?[0-9]{1,3}|\s|[^\sA-Za-z0-9\x03]+")
_END: Final = "\x03"
_ROLES: Final[dict[str, Role]] = {"system": "system", "user": "user", "assistant": "assistant", "tool": "tool"}


class WordTokenizer:
    """A word, three digits, a tag, a run of punctuation: each is one token, much as in the vocabularies of models.

    A message is its role, a line break, its content, and U+0003, which no message may hold. The vocabulary grows as
    texts come: ids are the same within one process alone.
    """

    end_of_turn = 0
    fingerprint = "words"

    def __init__(self, context_length: int) -> None:
        """Take prompts of up to `context_length` tokens."""
        self._context_length = context_length

    @property
    def context_length(self) -> int:
        """Return the longest sequence."""
        return self._context_length

    def encode(self, text: str) -> list[int]:
        """Return the ids of the text's pieces."""
        return list(_encode(text))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text without the ends of turns."""
        return "".join(map(_WORDS.__getitem__, token_ids)).replace(_END, "")

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """Return the conversation."""
        text = "".join(f"{message.role}\n{message.content}{_END}" for message in messages)
        return f"{text}assistant\n" if add_generation_prompt else text

    def read(self, token_ids: Sequence[int]) -> list[Message]:
        """Return the messages of a prompt that ends where the assistant is to speak."""
        *turns, _ = "".join(map(_WORDS.__getitem__, token_ids)).split(_END)
        return [_message(turn) for turn in turns]


class _Vocabulary(dict[str, int]):
    """Gives each new piece the next id."""

    def __missing__(self, piece: str) -> int:
        _WORDS.append(piece)
        self[piece] = len(_WORDS) - 1
        return self[piece]


_WORDS: Final[list[str]] = [_END]
_IDS: Final = _Vocabulary({_END: 0})


@lru_cache(maxsize=8192)
def _encode(text: str) -> tuple[int, ...]:
    return tuple(map(_IDS.__getitem__, _PIECES.findall(text)))


@lru_cache(maxsize=8192)
def _message(turn: str) -> Message:
    spoken, _, content = turn.partition("\n")
    return Message(role=_ROLES[spoken], content=content)
