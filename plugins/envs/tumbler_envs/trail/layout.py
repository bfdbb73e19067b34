"""What one task lays out: its files, its archives and its answer; knows no shell and no randomness."""

import hashlib
import json
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias, cast

from tumbler.contracts.environment import Task
from tumbler.contracts.values import JSON
from tumbler.errors import ContractError
from tumbler_envs.trail.settings import StepKind
from tumbler_envs.trail.words import COMPUTE

__all__ = ["WORKDIR", "LaidKind", "Packed", "Trail", "pack"]

LaidKind: TypeAlias = StepKind | Literal["fork"]
"""What a step of a laid trail is."""

WORKDIR = "/work"
"""The folder in which all files of a task lie and in which the shell starts."""

_MODIFIED = 1_700_000_000
"""Seconds; tar warns of times near 0 and of those to come."""

_BLOCK = 512


@dataclass(frozen=True, kw_only=True)
class Packed:
    """What an archive holds: one file."""

    member: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Trail:
    """One trail and the decoys beside it."""

    start: str
    """The file to read first."""
    label: str
    """The label of the right way on, in every file."""
    output: str
    """The file that the answer belongs in."""
    answer: str
    kinds: tuple[LaidKind, ...]
    """The kind of each step."""
    files: Mapping[str, str]
    """Name → text."""
    archives: Mapping[str, Packed]
    key: str = ""
    """The key that the instruction names; "" without a fork."""
    crucial_chunk: int | None = None
    """The index of the chunk that reads the fork, in the episode of an expert that makes no mistake.

    None without a fork and for an open one, where no choice decides.
    """

    @property
    def instruction(self) -> str:
        """Return what the policy is told: at most thirty words."""
        sentences = [f"Read {self.start} and follow {self.label}."]
        if self.archives:
            sentences.append("Unpack archives with tar xvf.")
        if any(COMPUTE in text for text in self._texts):
            sentences.append("Compute with expr; results name files.")
        if self.key:
            sentences.append(f"Where told to choose, look for {self.key}.")
        sentences.append(f"Write the value to {self.output}.")
        return " ".join(sentences)

    @property
    def digest(self) -> str:
        """Return a hash of all that can be seen; equal trails have equal ones, whatever drew them."""
        seen = [self.instruction, dict(self.files), {name: asdict(each) for name, each in self.archives.items()}]
        return hashlib.sha256(json.dumps(seen, sort_keys=True).encode()).hexdigest()

    @property
    def contents(self) -> dict[str, bytes]:
        """Return the files as they lie in the folder at the start: name → bytes."""
        archives = {name: pack(packed) for name, packed in self.archives.items()}
        return {name: text.encode() for name, text in self.files.items()} | archives

    def to_metadata(self) -> dict[str, JSON]:
        """Return the trail as a JSON object; `from_task` gives an equal one back."""
        return {
            "start": self.start,
            "label": self.label,
            "output": self.output,
            "answer": self.answer,
            "kinds": list(self.kinds),
            "files": dict(self.files),
            "archives": {name: asdict(packed) for name, packed in self.archives.items()},
            "key": self.key,
            "crucial_chunk": self.crucial_chunk,
        }

    @classmethod
    def from_task(cls, task: Task) -> "Trail":
        """Return the trail that the task's metadata describes; raise `ContractError` if it does not."""
        fields = cast("dict[str, Any]", dict(task.metadata))
        try:
            archives = {name: Packed(**packed) for name, packed in fields["archives"].items()}
            return cls(**{**fields, "kinds": tuple(fields["kinds"]), "archives": archives})
        except (AttributeError, KeyError, TypeError) as error:
            raise ContractError(
                f"task {task.id!r} is no task of the environment trail: its metadata does not fit ({error!r}); "
                "give trail only tasks that its own `tasks` returned"
            ) from error

    @property
    def _texts(self) -> list[str]:
        return [*self.files.values(), *(packed.text for packed in self.archives.values())]


def pack(packed: Packed) -> bytes:
    """Return a tar archive of the one file: always the same bytes for the same content."""
    data = packed.text.encode()
    header = tarfile.TarInfo(packed.member)
    header.size = len(data)
    header.mtime = _MODIFIED
    padding = bytes(-len(data) % _BLOCK)
    return header.tobuf(tarfile.USTAR_FORMAT) + data + padding + bytes(2 * _BLOCK)
