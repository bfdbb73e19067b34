"""How many tokens messages take in a prompt, their frames in the chat template included; knows no log."""

from collections.abc import Sequence
from functools import lru_cache

from tumbler.contracts.inference import TextTokenizer
from tumbler.contracts.values import Message, Role

__all__ = ["PromptLength", "TokenCounter"]

_REMEMBERED = 4096
"""Texts whose count is kept: as many as are in view in a long episode."""
_WORD = "x"
_QUESTION = Message(role="user", content=_WORD)
_ANSWER = Message(role="assistant", content=_WORD)


class TokenCounter:
    """Counts with the served tokenizer. What a template adds to a message is measured once for each role."""

    def __init__(self, tokenizer: TextTokenizer) -> None:
        """Measure nothing yet."""
        self._tokenizer = tokenizer
        # Strategies count the same old outputs before each prompt.
        self._count = lru_cache(maxsize=_REMEMBERED)(self._counted)
        self._frames: dict[Role, int] = {}
        self._base: int | None = None

    def text(self, text: str) -> int:
        """Return the tokens of a bare text."""
        return self._count(text)

    def message(self, message: Message) -> int:
        """Return the tokens of a message and its frame."""
        if message.role not in self._frames:
            self._frames[message.role] = self._frame(message.role)
        return self._frames[message.role] + self.text(message.content)

    @property
    def base(self) -> int:
        """Return what every prompt takes besides its messages, such as a template's own system prompt."""
        if self._base is None:
            self._base = max(0, self._rendered([_QUESTION], ask=True) - self.message(_QUESTION))
        return self._base

    def _counted(self, text: str) -> int:
        return len(self._tokenizer.encode(text))

    def _frame(self, role: Role) -> int:
        message = Message(role=role, content=_WORD)
        if role == "system":
            before, after = [_QUESTION], [message, _QUESTION]
        elif role == "assistant":
            before, after = [_QUESTION], [_QUESTION, message]
        else:
            before, after = [_QUESTION, _ANSWER], [_QUESTION, _ANSWER, message]
        try:
            added = self._rendered(after) - self._rendered(before)
        except Exception:  # noqa: BLE001  # a template is a program that raises what it likes: it does not know the role
            return 0 if role == "user" else self._frame("user")
        return max(0, added - self.text(_WORD))

    def _rendered(self, messages: Sequence[Message], *, ask: bool = False) -> int:
        return self.text(self._tokenizer.render(messages, add_generation_prompt=ask))


class PromptLength:
    """The length of the next prompt: what its messages count, corrected by what prompts and replies really were."""

    def __init__(self, counter: TokenCounter, end_of_turn: int) -> None:
        """Count with `counter`; `end_of_turn` is the id that a template writes behind a reply, too."""
        self._counter = counter
        self._end_of_turn = end_of_turn
        self._estimated = 0
        self.correction = 0
        """Tokens that the last prompt and its replies took beyond what was counted."""

    def of(self, tokens: int) -> int:
        """Return the length of a prompt whose messages count so many tokens."""
        return self._counter.base + tokens + self.correction

    def note_counted(self, tokens: int) -> None:
        """Take what the messages of the prompt that is made now count."""
        self._estimated = self._counter.base + tokens

    def note_prompt(self, tokens: int) -> None:
        """Take the true length of that prompt: sampled words may be more tokens than their text makes again."""
        self.correction = max(0, tokens - self._estimated)

    def note_reply(self, text: str, token_ids: Sequence[int]) -> None:
        """Take the true length of a reply to it, which the next prompt holds as it was sampled."""
        sampled = len(token_ids) - (list(token_ids[-1:]) == [self._end_of_turn])
        self.correction += max(0, sampled - self._counter.text(text))
