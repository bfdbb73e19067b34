"""Bodies that were read before: the same values as a decoder's, and the same objects for what came before."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumbler_backends.gateway.bodies import read_body, seen_bodies
from tumbler_backends.gateway.seen import noted
from tumbler_backends.gateway.wire.format import BadRequest

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.sampled_from(["role", "content", "a"]), VALUES, max_size=3)
STYLES = st.sampled_from([(", ", ": "), (",", ":"), (" ,\n ", "\t: ")])


@given(
    pool=st.lists(OBJECTS | VALUES, min_size=1, max_size=4),
    bodies=st.lists(st.tuples(st.lists(st.integers(0, 3)), st.integers(0, 2), STYLES, st.booleans()), max_size=8),
    rest=st.dictionaries(st.text(max_size=4), VALUES, max_size=3),
)
def test_bodies_are_read_as_a_decoder_reads_them(pool, bodies, rest):
    seen = seen_bodies()
    for chosen, kind, separators, escaped in bodies:
        body = {**rest, ["messages", "input", "tools"][kind]: [pool[index % len(pool)] for index in chosen]}
        text = json.dumps(body, separators=separators, ensure_ascii=escaped).encode(errors="surrogatepass")
        try:
            expected = read_body(text)
        except BadRequest as error:
            with pytest.raises(BadRequest, match=str(error)[:12]):
                read_body(text, seen)
        else:
            # As text, since 1, 1.0 and True are equal to each other.
            assert json.dumps(read_body(text, seen)) == json.dumps(expected)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "{",
        "}",
        "[]",
        '"a"',
        "null",
        '{"a"}',
        '{"a": }',
        '{"a": [1, ]}',
        '{"a": [, 1]}',
        '{"a": [{}',
        '{"a": [{} {}]}',
        '{"a": [{}, ]}',
        '{"a": [{}]} x',
        '{"a": [{}]}}',
        '{"a": 1,}',
        "{a: 1}",
        "{1: 1}",
        '{"a": NaN}',
        '{"a": [{"b": NaN}]}',
        '{"a": [{"b": 1e999}]}',
        "\ufeff{}",
        '{"a": [{"b": "x}]}',
        '{"a": [{"b": "\n"}]}',
        '{"a": ["\\ud83d", {"b": "\\ud83d"}], "\\ud83d": "\\ud83d \\ud83d\\ude00"}',
        '{"a": [{"b": 1}], "a": [{"b": 2}]}',
        '{"a": ' + "[" * 150 + "]" * 150 + "}",
        '{"a": ' + "[" * 250 + "]" * 250 + "}",
        '{"a": [' + '{"b":' * 250 + "1" + "}" * 250 + "]}",
    ],
)
def test_what_is_odd_is_read_or_refused_as_it_is_without_a_memory(text):
    seen = seen_bodies()
    for _ in range(2):
        read_body(b'{"a": [{}, {"b": 1}, {"b": "x"}]}', seen)
        outcomes = []
        for memory in (None, seen):
            try:
                outcomes.append(json.dumps(read_body(text.encode(), memory)))
            except BadRequest as error:
                outcomes.append(str(error))
        assert outcomes[0] == outcomes[1]


def test_what_came_before_is_the_same_object_and_nothing_else_is():
    seen = seen_bodies()

    def messages(*texts: str) -> list:
        return read_body(f'{{"messages": [{", ".join(texts)}]}}'.encode(), seen)["messages"]

    first = messages('{"a": 1}', '{"b": true}')
    again = messages('{"a": 1}', '{"b": true}', '{"c": 1}')
    assert [old is new for old, new in zip(first, again, strict=False)] == [True, True]
    other = messages('{"a": 1}', '{"b": 1}', '{"c": 1}')
    assert [old is new for old, new in zip(again, other, strict=True)] == [True, False, False]
    shifted = messages('{"b": true}')
    assert shifted[0] is not first[1]
    prefix = messages('{"a": 1}', '{"b": true, "d": 2}')
    assert (prefix[1], prefix[1] is first[1]) == ({"b": True, "d": 2}, False)


def test_many_ways_to_go_on_are_all_known_again():
    seen = seen_bodies()
    bodies = [f'{{"messages": [{{"a": 0}}, {{"b": {number}}}]}}'.encode() for number in range(50)]
    first = [read_body(body, seen)["messages"][1] for body in bodies]
    assert all(read_body(body, seen)["messages"][1] is object_ for body, object_ in zip(bodies, first, strict=True))


def test_what_is_made_of_an_object_is_made_once_for_each_maker():
    made: list[object] = []

    def make(value: int) -> int:
        made.append(value)
        return value

    (known,) = read_body(b'{"messages": [{}]}', seen_bodies())["messages"]
    assert [noted(known, "one", make, 1), noted(known, "one", make, 2), noted(known, "two", make, 3)] == [1, 1, 3]
    assert [noted({}, "one", make, 4), noted({}, "one", make, 5)] == [4, 5]
    assert made == [1, 3, 4, 5]


def test_a_memory_that_is_full_forgets_and_reads_on():
    seen = seen_bodies()
    large = json.dumps({"messages": [{"content": "x" * (17 << 20)}, {"content": "y"}]}).encode()
    first, again = (read_body(large, seen)["messages"] for _ in range(2))
    assert first == again
    assert first[1] is not again[1]
    small = b'{"messages": [{"content": "y"}]}'
    read_body(small, seen)
    assert read_body(small, seen)["messages"][0] is read_body(small, seen)["messages"][0]
