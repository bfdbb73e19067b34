"""`@file` in what the person says: the file is read and attached; knows no conversation."""

import re
from collections.abc import Sequence
from typing import Final

from tumbler.errors import SandboxError
from tumbler_agents.tools.bounds import bounded, decoded
from tumbler_agents.tools.checked import Refusal
from tumbler_agents.tools.workplace import Workplace

__all__ = ["attachment", "attachments", "mentioned"]

_MENTION: Final = re.compile(r"(?<![\w@/.`])@(~?/?[\w.-]+(?:/[\w.-]+)*)")
_MOST_FILES: Final = 10


def mentioned(text: str) -> Sequence[str]:
    """Return the names behind `@` that may be files, each once."""
    return list(dict.fromkeys(match[1].rstrip(".,;:!?") for match in _MENTION.finditer(text)))[:_MOST_FILES]


async def attachments(text: str, place: Workplace, *, characters: int) -> str:
    """Return the files that a text mentions; names of no file are just words."""
    parts: list[str] = []
    left = characters
    for name in mentioned(text):
        part = await attachment(name, place, characters=left)
        if part is not None:
            parts.append(part)
            left -= len(part)
    return "\n\n".join(parts)


async def attachment(path: str, place: Workplace, *, characters: int) -> str | None:
    """Return a text file as an attachment of at most so many characters; None where it is no file, or there is no room.

    The file then counts as read, if all of it is shown.
    """
    try:
        content = await place.read(path)
    except SandboxError as error:
        if error.infra:
            raise
        return None
    except (Refusal, OSError, ValueError):
        return None
    frame = f'<file path="{path}">\n\n</file>'
    room = characters - len(frame)
    text = decoded(content).rstrip("\n")
    if room <= 0 or "\0" in text[:1024]:
        return None
    if len(text) <= room:
        place.ledger.saw(await place.absolute(path), content)
        return f'<file path="{path}">\n{text}\n</file>'
    # What `bounded` leaves out is counted in a line that takes room, too.
    shorter = bounded(text, room - 80) if room > 200 else None
    return None if shorter is None else f'<file path="{path}">\n{shorter}\n</file>'
