"""Nothing that is written as text can become markup."""

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumbler_backends.observers.report.markup import element, readable


class Collector(HTMLParser):
    """Keeps the tags and the text that a browser would see."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.data = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, attrs))

    def handle_data(self, data: str) -> None:
        self.data += data


def parsed(markup: str) -> Collector:
    collector = Collector()
    collector.feed(markup)
    collector.close()
    return collector


@given(st.text(alphabet=st.characters(codec=None)) | st.text(alphabet="<>&\"'=/;ab \n"))
def test_any_text_stays_text(text: str) -> None:
    markup = element("p", text, title=text)
    seen = parsed(markup)
    assert seen.data == readable(text)
    assert seen.tags == [("p", [("title", readable(text))])]
    markup.encode("utf-8")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\ud800a", "\ufffda"),
        ("\x1b[31m", "\\x1b[31m"),
        ("a\u202eb", "a\\u202eb"),
        ("a\r\nb\tc\rd", "a\nb\tc\\x0dd"),
        ("\x00\x7f", "\\x00\\x7f"),
    ],
)
def test_what_cannot_be_seen_is_made_visible(text: str, shown: str) -> None:
    assert readable(text) == shown


def test_elements_nest_without_being_escaped_twice() -> None:
    assert element("p", element("b", "a & b"), None, [" c"]) == "<p><b>a &amp; b</b> c</p>"


def test_attributes_are_named_as_html_names_them() -> None:
    markup = element("input", class_="a", aria_label="b", hidden=True, value=None, disabled=False, x=1.50000001)
    assert markup == '<input class="a" aria-label="b" hidden x="1.5">'
