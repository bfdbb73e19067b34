"""Where conversations are kept: a folder for each under the state folder; knows no agent."""

import fcntl
import itertools
import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import IO, Final

from tumbler.contracts.values import JSONObject
from tumbler.errors import RunFolderError
from tumbler.run.files import read_json, write_json

__all__ = ["About", "KeptConversation", "Shelves"]

_ABOUT: Final = "about.json"
_SAVED: Final = "conversation.json"
_TITLE: Final = 70
_SLUG: Final = 32


@dataclass(frozen=True, kw_only=True)
class About:
    """What a listing says of a conversation."""

    title: str
    """How the person began it."""
    folder: str
    """The folder that the agent worked in."""
    agent: str
    """The agent's and its strategies' names, with the hashes of their settings."""
    model: str
    begun: str
    messages: int = 1
    """What the person has said so far."""
    options: JSONObject = field(default_factory=dict)
    """How the model was asked for: what is used again where nothing else is said."""


class KeptConversation:
    """The folder of one conversation, locked while it is open."""

    def __init__(self, path: Path) -> None:
        """Take the folder, made where it is missing; raise `RunFolderError` where another process has it."""
        self.path = path
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._lock: IO[str] = (path / ".lock").open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            self._lock.close()
            raise RunFolderError(
                f"the conversation {path.name} is open already, here or in another process; leave it there first"
            ) from error

    def close(self) -> None:
        """Let others open it. Safe to call twice."""
        self._lock.close()

    @property
    def name(self) -> str:
        """Return what it is resumed by."""
        return self.path.name

    @property
    def saved(self) -> Path:
        """Return where the agent's own file is."""
        return self.path / _SAVED

    @property
    def about(self) -> About:
        """Return what is known of it."""
        return _about(self.path)

    def write(self, about: About) -> None:
        """Say what it is about."""
        write_json(self.path / _ABOUT, asdict(about))

    def count(self) -> None:
        """Note that the person has said something more."""
        about = self.about
        self.write(replace(about, messages=about.messages + 1))


class Shelves:
    """All conversations of this user."""

    def __init__(self, root: Path) -> None:
        """Keep them under `root`."""
        self._root = root

    @classmethod
    def of_user(cls, environment: Mapping[str, str] = os.environ) -> "Shelves":
        """Return those in the user's state folder, as the XDG base directories have it."""
        given = environment.get("XDG_STATE_HOME", "")
        state = Path(given) if given.startswith("/") else Path.home() / ".local" / "state"
        return cls(state / "tumbler" / "conversations")

    @property
    def history(self) -> Path:
        """Return the file of what was typed."""
        return self._root / "history"

    def begin(self, about: About) -> KeptConversation:
        """Make a folder for a conversation that has just begun."""
        stem = f"{time.strftime('%Y%m%d-%H%M%S')}-{_slug(about.title)}".rstrip("-")
        kept = KeptConversation(self._made(stem))
        kept.write(replace(about, title=_title(about.title)))
        return kept

    def find(self, wanted: str, folder: Path) -> KeptConversation:
        """Open the conversation of a name, of a part of one, or `last`: the latest about this folder.

        Raises `RunFolderError` that names those there are.
        """
        known = self.listed()
        here = [path for path, about in self._readable() if about.folder == str(folder)]
        if wanted == "last":
            found = here[:1]
            problem = f"there is no conversation about {folder} yet"
        else:
            found = [path for path in known if path.name == wanted] or [path for path in known if wanted in path.name]
            problem = f"no conversation is called {wanted!r}"
        if len(found) == 1:
            return KeptConversation(found[0])
        if len(found) > 1:
            problem = f"{len(found)} conversations have {wanted!r} in their names"
        names = ", ".join(path.name for path in (found or known)[:10])
        raise RunFolderError(f"{problem}; {f'there are: {names}' if names else 'none was kept so far'}")

    def listed(self) -> Sequence[Path]:
        """Return the conversations' folders, latest first."""
        saved = [path for path in self._root.glob(f"*/{_SAVED}") if (path.parent / _ABOUT).exists()]
        return [path.parent for path in sorted(saved, key=lambda path: path.stat().st_mtime_ns, reverse=True)]

    def described(self, folder: Path, *, most: int = 10) -> str:
        """Return the latest conversations in words, those about the folder first."""
        known = sorted(self._readable(), key=lambda pair: pair[1].folder != str(folder))[:most]
        lines = []
        for path, about in known:
            where = "" if about.folder == str(folder) else f"  [{about.folder}]"
            lines.append(f"{path.name}  {about.title!r}, {about.messages} message(s){where}")
        return "\n".join(lines) or "No conversation was kept so far."

    def _readable(self) -> Sequence[tuple[Path, About]]:
        """Return the conversations of which something is known; a damaged one must not hide the others."""
        found: list[tuple[Path, About]] = []
        for path in self.listed():
            with suppress(RunFolderError):
                found.append((path, _about(path)))
        return found

    def _made(self, stem: str) -> Path:
        """Make a folder that no other process has made."""
        self._root.mkdir(parents=True, exist_ok=True, mode=0o700)
        for count in itertools.count(1):
            path = self._root / (stem if count == 1 else f"{stem}-{count}")
            with suppress(FileExistsError):
                path.mkdir(mode=0o700)
                return path
        raise AssertionError("counting ends never")


def _about(path: Path) -> About:
    try:
        return About(**json.loads(json.dumps(read_json(path / _ABOUT))))
    except TypeError as error:
        raise RunFolderError(f"{path / _ABOUT} was written by another version: {error}") from error


def _title(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _TITLE else f"{line[: _TITLE - 1]}…"


def _slug(text: str) -> str:
    return "-".join(re.findall(r"[a-z0-9]+", text.lower()))[:_SLUG].strip("-")
