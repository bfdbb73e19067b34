"""Bodies of one session, of which only what is new is parsed; knows no API.

Clients send the whole conversation again with each request. The text of a JSON object says where it ends, so that an
object whose text came before at the same place, after the same objects, is known without a look at its JSON.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, TypeVar, cast

from tumbler.contracts.values import JSON

__all__ = ["SeenBodies", "SeenObject", "noted"]

_NotedT = TypeVar("_NotedT")

_BLANKS: Final = " \t\r\n"
_SPACE: Final = re.compile(f"[{_BLANKS}]*")
_TRIED: Final = 8
"""How many of the objects that came after some other, the newest first, are compared before the text is parsed."""
_MOST_CHARACTERS: Final = 16 << 20
"""Of the objects that are kept; beyond it all are forgotten, so that sessions cannot fill the memory."""

_OF_A_LIST: Final = 200
"""What a list takes by itself."""
_OF_AN_OBJECT: Final = 1000
"""What an object takes beside its text, with what is made of it."""


class SeenObject(dict[str, JSON]):
    """An object in a list of a body. It is the same one for the same text at the same place."""

    __slots__ = ("notes",)

    def __init__(self, value: Mapping[str, JSON]) -> None:
        """Hold a value that nobody has read yet."""
        super().__init__(value)
        self.notes: dict[object, object] = {}
        """What was made of it, so that it is made once."""


@dataclass(eq=False)
class _Place:
    """A list of a body up to one of its objects."""

    text: str
    value: SeenObject
    latest: "_Place | None" = None
    """What followed it the last time."""
    following: "dict[str, _Place]" = field(default_factory=dict)
    """All that followed it, by their text."""


class SeenBodies:
    """Reads the bodies of one session."""

    def __init__(self, decoder: json.JSONDecoder, accept: Callable[[JSON, str], JSON]) -> None:
        """Parse with `decoder`; `accept` checks or mends a new value, given its text, and may raise `ValueError`."""
        self._decoder = decoder
        self._accept = accept
        self._lists: dict[str, _Place] = {}
        """Field → the beginning of its list."""
        self._characters = 0

    def read(self, text: str) -> dict[str, JSON] | None:
        """Return the object that the whole text is; None where it is none, or not JSON: the decoder says why."""
        try:
            return self._object(text)
        except (ValueError, IndexError, RecursionError):
            return None
        finally:
            if self._characters > _MOST_CHARACTERS:
                self._lists.clear()
                self._characters = 0

    def _object(self, text: str) -> dict[str, JSON]:
        body: dict[str, JSON] = {}
        position = self._pass(text, 0, "{")
        if text[position] == "}":
            return self._whole(text, position, body)
        while True:
            key, position = self._parsed(text, position)
            if not isinstance(key, str):
                raise ValueError("a field's name must be a string")
            position = self._pass(text, position, ":")
            body[key], position = self._value(text, position, key)
            position = _skip(text, position)
            if text[position] == "}":
                return self._whole(text, position, body)
            position = self._pass(text, position, ",")

    def _value(self, text: str, position: int, key: str) -> tuple[JSON, int]:
        if text[position] == "[":
            return self._list(text, self._pass(text, position, "["), key)
        return self._parsed(text, position)

    def _parsed(self, text: str, position: int) -> tuple[JSON, int]:
        value, end = self._decoder.raw_decode(text, position)
        return self._accept(value, text[position:end]), end

    def _list(self, text: str, position: int, key: str) -> tuple[list[JSON], int]:
        place = self._beginning(key)
        items: list[JSON] = []
        if text[position] == "]":
            return items, position + 1
        while True:
            latest = place.latest
            if latest is not None and text.startswith(latest.text, position):
                place, position = latest, position + len(latest.text)
                items.append(place.value)
            elif text[position] == "{":
                place, position = self._next(place, text, position)
                items.append(place.value)
            else:
                item, position = self._parsed(text, position)
                items.append(item)
            position = _skip(text, position)
            if text[position] == "]":
                return items, position + 1
            if text[position] != ",":
                raise ValueError("there is no comma")
            position = _skip(text, position + 1)

    def _beginning(self, key: str) -> _Place:
        if key not in self._lists:
            self._lists[key] = _Place(text="", value=SeenObject({}))
            self._characters += len(key) + _OF_A_LIST
        return self._lists[key]

    def _next(self, place: _Place, text: str, position: int) -> tuple[_Place, int]:
        """Return the place of the object that begins here, and where it ends."""
        for known in islice(reversed(place.following.values()), _TRIED):
            if text.startswith(known.text, position):
                place.latest = known
                return known, position + len(known.text)
        value, end = self._decoder.raw_decode(text, position)
        written = text[position:end]
        if written not in place.following:
            accepted = self._accept(value, written)
            assert isinstance(accepted, dict)
            place.following[written] = _Place(text=written, value=SeenObject(accepted))
            self._characters += len(written) + _OF_AN_OBJECT
        place.latest = place.following[written]
        return place.latest, end

    def _pass(self, text: str, position: int, sign: str) -> int:
        """Return where the text goes on after a sign and the space around it."""
        position = _skip(text, position)
        if text[position] != sign:
            raise ValueError(f"there is no {sign}")
        return _skip(text, position + 1)

    def _whole(self, text: str, position: int, body: dict[str, JSON]) -> dict[str, JSON]:
        if text[position + 1 :].strip(_BLANKS):
            raise ValueError("there is more than one value")
        return body


def noted(value: object, key: object, make: Callable[..., _NotedT], *arguments: object) -> _NotedT:
    """Return what `make` makes of the arguments; of an object that was seen before, what it made then under the key."""
    if not isinstance(value, SeenObject):
        return make(*arguments)
    notes = value.notes
    if key not in notes:
        notes[key] = make(*arguments)
    return cast("_NotedT", notes[key])


def _skip(text: str, position: int) -> int:
    if text[position] not in _BLANKS:
        return position
    match = _SPACE.match(text, position)
    return position if match is None else match.end()
