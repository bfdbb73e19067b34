"""What an episode has shown so far, in passages that can be searched; knows no strategy."""

from bisect import bisect_right
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Final, NamedTuple, cast

from tumbler.contracts.values import JSON
from tumbler_agents.context import bm25
from tumbler_agents.context.excerpt import Count, head_of, split_frame
from tumbler_agents.context.postings import Postings

__all__ = ["Memory", "Passage", "split"]


_MOST_TERMS: Final = 64
"""Of a longer query the rarest terms are looked up: the others take most of the time and decide little."""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """A few lines, and where they come from."""

    source: str
    text: str


class _Source(NamedTuple):
    """A text that is remembered, or was: where its passages are, how many tokens it has, and its digest."""

    start: int
    stop: int
    tokens: int
    digest: str

    @classmethod
    def read(cls, line: str) -> "_Source":
        start, stop, tokens, digest = line.split(" ")
        return cls(int(start), int(stop), int(tokens), digest)

    @property
    def written(self) -> str:
        return " ".join(map(str, self))


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

    A text is split and its terms are found once, when it comes. One that is forgotten leaves its name, so that it is
    not taken for a new one, and blanks in place of its passages until they are the greater part.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._sources: dict[str, _Source] = {}
        self._texts: list[str] = []
        self._lengths: list[int] = []
        """How many terms each passage has; 0 for a blank."""
        self._postings = Postings()

    @classmethod
    def load(cls, kept: JSON) -> "Memory":
        """Read what `to_json` gave."""
        memory = cls()
        if isinstance(kept, Mapping):
            memory._sources = {
                name: _Source.read(line) for name, line in cast("dict[str, str]", kept["sources"]).items()
            }
            memory._texts, memory._lengths = (
                list(cast("list[str]", kept["texts"])),
                list(cast("list[int]", kept["lengths"])),
            )
            memory._postings = Postings(kept["postings"])
        return memory

    def to_json(self) -> JSON:
        """Return all of it."""
        return {
            "sources": {name: source.written for name, source in self._sources.items()},
            "texts": self._texts,
            "lengths": self._lengths,
            "postings": self._postings.to_json(),
        }

    def __contains__(self, source: str) -> bool:
        return source in self._sources

    def search(self, query: str, *, but: Collection[str], least: float) -> Sequence[Passage]:
        """Return the passages that fit a text with a score above 0 and of at least `least`, the best first.

        What comes from the sources `but` is taken for not there.
        """
        lengths = list(self._lengths)
        for source in [self._sources[name] for name in but if name in self._sources]:
            lengths[source.start : source.stop] = [0] * (source.stop - source.start)
        held = self._postings.rarest(bm25.terms(query), _MOST_TERMS)
        scores = bm25.score([{at: times for at, times in each.items() if lengths[at]} for each in held], lengths)
        found = sorted((at for at, score in scores.items() if score >= least), key=lambda at: (-scores[at], at))
        names, starts = list(self._sources), [source.start for source in self._sources.values()]
        return [Passage(source=names[bisect_right(starts, at) - 1], text=self._texts[at]) for at in found]

    def add(self, source: str, text: str, passage_tokens: int, count: Count) -> None:
        """Keep a text, in passages of at most so many tokens, in place of what its source held."""
        digest = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
        if source in self._sources and self._sources[source].digest == digest:
            return
        self._blank(source)
        passages = split(text, passage_tokens, count)
        self._sources.pop(source, None)
        self._append(source, passages, count(text), digest)

    def forget(self, most: int) -> None:
        """Let go of the oldest texts until at most `most` tokens are kept."""
        over = sum(source.tokens for source in self._sources.values()) - most
        for name, source in self._sources.items():
            if over <= 0:
                break
            over -= source.tokens
            self._blank(name)
        if self._lengths.count(0) > len(self._lengths) // 2:
            self._sweep()

    def _append(self, name: str, passages: Sequence[str], tokens: int, digest: str) -> None:
        start = len(self._texts)
        for passage in passages:
            # One without a word is never found, and would pass for a blank.
            if terms := bm25.terms(passage):
                self._postings.add(len(self._texts), terms)
                self._texts.append(passage)
                self._lengths.append(len(terms))
        self._sources[name] = _Source(start, len(self._texts), tokens, digest)

    def _blank(self, name: str) -> None:
        if name in self._sources:
            start, stop, _, digest = self._sources[name]
            self._texts[start:stop], self._lengths[start:stop] = [""] * (stop - start), [0] * (stop - start)
            self._sources[name] = _Source(start, start, 0, digest)

    def _sweep(self) -> None:
        """Number the passages that are left anew."""
        sources, texts = self._sources, self._texts
        self._sources, self._texts, self._lengths, self._postings = {}, [], [], Postings()
        for name, (start, stop, tokens, digest) in sources.items():
            self._append(name, texts[start:stop], tokens, digest)
