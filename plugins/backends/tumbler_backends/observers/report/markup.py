"""Build HTML and SVG in which every string is escaped; knows no page and no figure."""

import html
import re
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Attribute", "Child", "Markup", "element", "fragment", "readable"]

_VOID = frozenset({"br", "hr", "img", "input", "link", "meta"})
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f]")
_INVISIBLE = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class Markup(str):
    """Text that is markup already; only this module makes it from foreign text."""

    __slots__ = ()


Child: TypeAlias = "Markup | str | Iterable[Child] | None"
Attribute: TypeAlias = "str | int | float | bool | None"


def element(tag: str, *children: Child, **attributes: Attribute) -> Markup:
    """Return one element. A child that is no `Markup` is escaped; None is left out.

    An underscore in an attribute's name stands for a hyphen, and one at its end is dropped
    (`class_`); True is an attribute without a value; False and None leave it out.
    """
    written = "".join(_attribute(name, value) for name, value in attributes.items())
    if tag in _VOID:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{fragment(children)}</{tag}>")


def fragment(children: Child) -> Markup:
    """Return the children one after another, escaped where they are no `Markup`."""
    if children is None:
        return Markup("")
    if isinstance(children, Markup):
        return children
    if isinstance(children, str):
        return Markup(html.escape(readable(children)))
    return Markup("".join(fragment(child) for child in children))


def readable(text: str) -> str:
    """Return the text with nothing in it that cannot be written or seen.

    Control characters and marks that reorder or hide text become their escapes, lone surrogates the
    replacement character. Newlines and tabs stay.
    """
    unified = text.replace("\r\n", "\n")
    escaped = _CONTROL.sub(lambda found: f"\\x{ord(found.group()):02x}", unified)
    shown = _INVISIBLE.sub(lambda found: f"\\u{ord(found.group()):04x}", escaped)
    return _SURROGATE.sub("\ufffd", shown)


def _attribute(name: str, value: Attribute) -> str:
    if value is None or value is False:
        return ""
    written = name.rstrip("_").replace("_", "-") if name != "viewBox" else name
    if value is True:
        return f" {written}"
    shown = f"{value:.6g}" if isinstance(value, float) else str(value)
    return f' {written}="{html.escape(readable(shown))}"'
