from hypothesis import given
from hypothesis import strategies as st

from tumbler_backends.sandbox.posix.marks import Collector, Mark, MarkedStream

KEY = "k" * 32


def mark(word: bytes) -> bytes:
    return b"\0" + KEY.encode() + b":" + word + b"\0"


def split(pieces: list[bytes]) -> tuple[list[bytes | Mark], bytes]:
    """Return the stream's parts with neighbours joined, and what was held back."""
    stream = MarkedStream(KEY)
    parts: list[bytes | Mark] = []
    for piece in pieces:
        for part in stream.feed(piece):
            last = parts[-1] if parts else None
            if isinstance(part, bytes) and isinstance(last, bytes):
                parts[-1] = last + part
            else:
                parts.append(part)
    return parts, stream.rest()


@given(
    before=st.lists(st.sampled_from([b"\0", b"k", b"kkkk", b":", b"end", b"\0kkk", b"x" * 100])).map(b"".join),
    cuts=st.lists(st.integers(min_value=1, max_value=40)),
)
def test_marks_are_found_however_the_stream_is_cut(before: bytes, cuts: list[int]) -> None:
    whole = before + mark(b"end") + b"late" + mark(b"0")
    pieces = []
    rest = whole
    for cut in cuts:
        pieces.append(rest[:cut])
        rest = rest[cut:]
    parts, held = split([*pieces, rest])
    assert parts == [*([before] if before else []), Mark(b"end"), b"late", Mark(b"0")]
    assert held == b""


def test_output_that_cannot_be_a_mark_is_passed_on_at_once() -> None:
    stream = MarkedStream(KEY)
    assert b"".join(part for part in stream.feed(b"a\0b\0kk?") if isinstance(part, bytes)) == b"a\0b\0kk?"
    assert list(stream.feed(b"prompt: ")) == [b"prompt: "]


def test_half_a_mark_is_held_back_and_given_out_at_the_end() -> None:
    parts, held = split([b"said\0kkk"])
    assert (parts, held) == ([b"said"], b"\0kkk")


def test_a_collector_counts_what_it_does_not_keep() -> None:
    collector = Collector(3)
    for piece in (b"ab", b"cd", b"ef"):
        collector.take(piece)
    assert (collector.data, collector.dropped) == (b"abc", 3)
