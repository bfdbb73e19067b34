"""Conversations to token ids; a running conversation is extended by its new tail alone.

Sampled ids are never made again from text: after a reply only what follows it is rendered, with a proof that the chat
template really appends. Control tokens that stand in the words of a message stay words. Knows no episode.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tumbler.contracts.inference import PlainTokenizer, TextTokenizer
from tumbler.contracts.values import Message

__all__ = ["Renderer", "joined", "render"]

_QUESTION = Message(role="user", content="question")
_ANSWER = "bridge-answer"


class Renderer:
    """Renders prompts and tails with one tokenizer."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        """Keep the tokenizer; a dummy exchange is rendered once."""
        self._tokenizer = tokenizer
        self._exchange: _Exchange | None = None

    def prompt(self, messages: Sequence[Message]) -> list[int]:
        """Return the ids of the whole conversation, up to where the assistant is to speak."""
        words = self._without_control(messages)
        return self._encode(render(self._tokenizer, words.messages, add_generation_prompt=True), words)

    def tail(self, messages: Sequence[Message], *, last_token: int) -> list[int] | None:
        """Return the ids that follow a reply when `messages` come after it.

        `last_token` is the reply's last id: a reply that stopped by itself already holds the end of
        its turn. None means that the template does not append, so that a new segment is needed.
        """
        words = self._without_control(messages)
        asked = (_QUESTION, Message(role="assistant", content=_ANSWER), *words.messages)
        text = render(self._tokenizer, asked, add_generation_prompt=True)
        following = self._dummy().following(text)
        if following is None:
            return None
        token_ids = self._encode(following, words)
        if last_token == self._tokenizer.end_of_turn:
            if not token_ids or token_ids[0] != last_token:
                return None
            del token_ids[0]
        return token_ids

    def _dummy(self) -> "_Exchange":
        if self._exchange is None:
            answered = (_QUESTION, Message(role="assistant", content=_ANSWER))
            closed = self._tokenizer.render(answered, add_generation_prompt=False)
            before, answer, after = closed.rpartition(_ANSWER)
            asked = self._tokenizer.render([_QUESTION], add_generation_prompt=True)
            self._exchange = _Exchange(before={before, asked} if answer else set(), after=after)
        return self._exchange

    def _without_control(self, messages: Sequence[Message]) -> "_Words":
        """Put a marker in place of what spells control tokens, from the first of them in a content to the last.

        What stands around it stays for the template to see, which may trim it or look how it begins.
        """
        if not isinstance(self._tokenizer, PlainTokenizer):
            return _Words(messages=messages)
        control = [token for token in self._tokenizer.control_tokens if token]
        spans = {index: span for index, each in enumerate(messages) if (span := _spelling(each.content, control))}
        if not spans:
            return _Words(messages=messages)
        everything = "\n".join(message.content for message in messages)
        stem = next(word for word in _markers() if word not in everything)
        shown, words = list(messages), {}
        for index, (start, end) in spans.items():
            content, marker = messages[index].content, f"{stem}{index}z"
            words[marker] = content[start:end]
            shown[index] = replace(messages[index], content=f"{content[:start]}{marker}{content[end:]}")
        return _Words(messages=shown, stem=stem, words=words)

    def _encode(self, text: str, words: "_Words") -> list[int]:
        tokenizer = self._tokenizer
        if not words.words or not isinstance(tokenizer, PlainTokenizer):
            return tokenizer.encode(text)
        token_ids: list[int] = []
        for piece in re.split(f"({words.stem}[0-9]+z)", text):
            if piece in words.words:
                token_ids += tokenizer.encode_plain(words.words[piece])
            elif piece:
                token_ids += tokenizer.encode(piece)
        return token_ids


@dataclass(frozen=True, kw_only=True)
class _Exchange:
    """How a template shows a question and its answer."""

    before: set[str]
    """What may stand before the answer: as an earlier turn, and as the prompt that it was an answer to. They differ
    where a template shows thinking, or the place for it, in the last turn alone. None where it hides the answer."""
    after: str
    """What closes the answer."""

    def following(self, text: str) -> str | None:
        """Return what follows the answer where more was said; None unless all before it stayed as it was."""
        before, answer, following = text.partition(_ANSWER)
        return following if answer and before in self.before and following.startswith(self.after) else None


@dataclass(frozen=True, kw_only=True)
class _Words:
    """Messages with markers in place of what spells control tokens."""

    messages: Sequence[Message]
    stem: str = ""
    """What all markers begin with."""
    words: Mapping[str, str] = field(default_factory=dict)
    """Marker → what it stands for."""


def render(tokenizer: TextTokenizer, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
    """Return the conversation as the chat template writes it.

    Many templates take no two messages of the user in a row, as tasks and summaries are, or the answers to several
    calls; for those they are joined.
    """
    try:
        return tokenizer.render(messages, add_generation_prompt=add_generation_prompt)
    except Exception:  # a template is a program that raises what it likes
        together = joined(messages)
        if len(together) == len(messages):
            raise
        return tokenizer.render(together, add_generation_prompt=add_generation_prompt)


def joined(messages: Sequence[Message]) -> Sequence[Message]:
    """Return the conversation with messages of the user that follow each other in one."""
    together: list[Message] = []
    for message in messages:
        if together and message.role == "user" == together[-1].role:
            together[-1] = replace(message, content=f"{together[-1].content}\n{message.content}")
        else:
            together.append(message)
    return together


def _spelling(content: str, control: Sequence[str]) -> tuple[int, int] | None:
    """Return where the first control token's spelling begins in a content and the last one ends; None without any."""
    found = [token for token in control if token in content]
    if not found:
        return None
    return min(map(content.find, found)), max(content.rfind(token) + len(token) for token in found)


def _markers() -> Iterator[str]:
    number = 0
    while True:
        yield f"words{number}q"
        number += 1
