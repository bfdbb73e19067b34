"""What an episode has shown so far, in passages that can be searched; knows no strategy and no score."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tumbler.contracts.values import JSON
from tumbler_agents.context.excerpt import Count, head_of, split_frame

__all__ = ["Memory", "Passage", "split"]


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A few lines, and where they come from."""

    source: str
    text: str


def split(text: str, tokens: int, count: Count) -> list[str]:
    """Return the text as passages of at most `tokens` tokens, of whole lines as far as lines are short enough."""
    rest = split_frame(text)[1]
    # About as many characters as will do: a search for the exact number would count each text ten times.
    size = max(1, len(rest) * tokens // max(1, count(rest)))
    passages: list[str] = []
    while rest:
        line = rest.rfind("\n", 0, size) + 1 if len(rest) > size else len(rest)
        passage = rest[: line or size]
        if count(passage) > tokens:
            # A character that is more tokens than a passage may have is one all the same, so that this ends.
            passage = head_of(passage, tokens, count) or rest[:1]
        passages.append(passage)
        rest = rest[len(passage) :]
    return [passage.strip("\n") for passage in passages if passage.strip()]


class Memory:
    """Texts by their source, oldest first, up to a number of tokens; it lies in a state as plain JSON.

    A text that is forgotten leaves its name, so that it is not taken for a new one.
    """

    def __init__(self, kept: JSON = None) -> None:
        """Read what `to_json` gave; start empty with None."""
        self._texts: dict[str, list[str]] = {}
        self._tokens: dict[str, int] = {}
        for source, value in kept.items() if isinstance(kept, Mapping) else ():
            if isinstance(value, Mapping) and isinstance(passages := value["passages"], Sequence):
                self._texts[source] = [str(passage) for passage in passages]
                self._tokens[source] = int(str(value["tokens"]))

    def to_json(self) -> JSON:
        """Return all of it."""
        return {
            source: {"tokens": self._tokens[source], "passages": list(passages)}
            for source, passages in self._texts.items()
        }

    def __contains__(self, source: str) -> bool:
        return source in self._texts

    def __iter__(self) -> Iterator[Passage]:
        for source, passages in self._texts.items():
            yield from (Passage(source=source, text=text) for text in passages)

    def add(self, source: str, passages: Sequence[str], tokens: int) -> None:
        """Keep a text of so many tokens in place of what its source held."""
        self._texts[source], self._tokens[source] = list(passages), tokens

    def forget(self, most: int) -> None:
        """Let go of the oldest texts until at most `most` tokens are kept."""
        size = sum(self._tokens.values())
        for source, tokens in self._tokens.items():
            if size <= most:
                return
            size -= tokens
            self._texts[source], self._tokens[source] = [], 0
