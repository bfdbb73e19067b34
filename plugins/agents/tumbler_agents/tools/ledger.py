"""Remembers which files the policy has seen, and in what state; knows no sandbox and no tool."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final, Literal, Self, TypeAlias

from tumbler.contracts.values import JSON, JSONObject

__all__ = ["FileLedger", "Knowledge"]

Knowledge: TypeAlias = Literal["unread", "changed", "current"]
"""What the policy knows of a file: nothing, an older content, or the present one."""

_DIGEST_BYTES: Final = 16


class FileLedger:
    """The files that were read or written, latest last, each with a digest of the content then.

    Its state is JSON, so that an episode can be checkpointed and taken up again.
    """

    def __init__(self) -> None:
        """Know no file."""
        self._digests: dict[str, str] = {}

    def saw(self, path: str, content: bytes) -> None:
        """Note that the policy knows this content of the file at the absolute path."""
        self._digests.pop(path, None)
        self._digests[path] = _digest(content)

    def knows(self, path: str, content: bytes) -> Knowledge:
        """Tell what the policy knows of a file that now has this content."""
        if path not in self._digests:
            return "unread"
        return "current" if self._digests[path] == _digest(content) else "changed"

    def recent(self, count: int) -> Sequence[str]:
        """Return the paths of the files read or written last, latest first; for showing them again."""
        return list(reversed(self._digests))[:count]

    def state(self) -> JSONObject:
        """Return what `restored` takes; the order of the paths is part of it."""
        return {"files": [[path, digest] for path, digest in self._digests.items()]}

    @classmethod
    def restored(cls, state: JSONObject) -> Self:
        """Return a ledger of that state; raises `ValueError` where it is none."""
        ledger = cls()
        for path, digest in _pairs(state):
            ledger._digests[path] = digest
        return ledger


def _digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).hexdigest()


def _pairs(state: JSON) -> Sequence[tuple[str, str]]:
    files = state.get("files") if isinstance(state, Mapping) else None
    if not isinstance(files, Sequence):
        raise ValueError('the state of a file ledger is {"files": [[path, digest], …]}')
    pairs: list[tuple[str, str]] = []
    for entry in files:
        match entry:
            case [str(path), str(digest)]:
                pairs.append((path, digest))
            case _:
                raise ValueError(f"an entry of a file ledger is [path, digest], not {entry!r}")
    return pairs
