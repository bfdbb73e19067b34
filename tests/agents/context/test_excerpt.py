import pytest
from hypothesis import given
from hypothesis import strategies as draw
from tests.agents.context.conversations import count_words

from tumbler_agents.context.excerpt import excerpt, head_of, split_frame, tail_of

LINES = "".join(f"line {number}\n" for number in range(100))


def cut(text, tokens, *, head_share=0.5, hint="", count=count_words):
    return excerpt(text, tokens, head_share=head_share, count=count, hint=hint)


def test_head_and_tail_are_whole_lines_and_the_gap_says_what_is_missing():
    shown = cut(LINES, 60)
    assert shown is not None
    head, gap, tail = shown.partition("[")[0], shown[shown.index("[") : shown.index("]") + 1], shown.partition("]\n")[2]
    assert LINES.startswith(head) and head.endswith("\n")
    assert LINES.endswith(tail) and tail.startswith("line ")
    missing = LINES[len(head) : len(LINES) - len(tail)]
    assert gap == f"[{count_words(missing)} tokens in {missing.strip().count(chr(10)) + 1} lines left out]"


def test_one_endless_line_is_cut_within_it():
    shown = cut("word " * 1000, 50)
    assert shown is not None and shown.startswith("word word") and shown.endswith("word ")
    assert "in 1 line left out" in shown


@pytest.mark.parametrize(("share", "has_head", "has_tail"), [(0.0, False, True), (1.0, True, False)])
def test_the_share_of_the_head_can_be_all_or_nothing(share, has_head, has_tail):
    shown = cut(LINES, 60, head_share=share)
    assert shown is not None
    assert (shown.startswith("line 0\n"), shown.endswith("line 99\n")) == (has_head, has_tail)


def test_where_nothing_fits_the_gap_alone_is_shown():
    shown = cut(LINES, 1)
    assert shown is not None and shown.startswith("[") and shown.endswith("lines left out]")


@pytest.mark.parametrize("text", ["", "x", "a\nb", "[7 tokens in 1 line left out]"])
def test_a_text_that_an_excerpt_would_not_make_shorter_has_none(text):
    assert cut(text, 0) is None


def test_a_tag_around_the_output_stays():
    shown = cut(f"<tool_response>\n{LINES}\n</tool_response>", 80)
    assert shown is not None
    assert shown.startswith("<tool_response>\nline 0\n") and shown.endswith("\n</tool_response>")
    assert count_words(shown) <= 80


def test_characters_that_are_drawn_as_one_are_not_taken_apart():
    family, accented = "👩\u200d👩\u200d👧", "e\u0301"
    assert head_of(family * 3, 7, len) == family
    assert tail_of(accented * 3, 3, len) == accented


@given(
    text=draw.text(alphabet=draw.sampled_from("ab \n<>/é\u0301\u200d羊[]0")),
    tokens=draw.integers(0, 60),
    share=draw.floats(0, 1),
    count=draw.sampled_from([len, count_words, lambda text: len(text.encode())]),
)
def test_an_excerpt_is_shorter_and_within_its_bound_but_for_the_gap(text, tokens, share, count):
    shown = excerpt(text, tokens, head_share=share, count=count)
    if shown is None:
        return
    assert count(shown) < count(text)
    opening, body, closing = split_frame(shown)
    assert count(shown) <= tokens or (body.startswith("[") and body.endswith("left out]"))
    assert text.startswith(opening) and text.endswith(closing)


@given(text=draw.text(alphabet="ab \n\u0301羊", max_size=80), tokens=draw.integers(0, 30))
def test_heads_and_tails_are_parts_of_the_text_within_the_bound(text, tokens):
    head, tail = head_of(text, tokens, count_words), tail_of(text, tokens, count_words)
    assert text.startswith(head) and text.endswith(tail)
    assert max(count_words(head), count_words(tail)) <= tokens


def test_the_cost_depends_on_what_is_kept_and_not_on_the_whole_text():
    counted = []

    def count(text):
        counted.append(len(text))
        return len(text)

    head_of("x" * 1_000_000, 100, count)
    assert sum(counted) < 10_000
