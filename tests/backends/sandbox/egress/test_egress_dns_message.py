import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumbler_backends.sandbox.egress.dns_message import Code, Kind, MalformedQuestion, answer, read_question


def query(
    name: bytes = b"\x01a\x04test\0", *, flags: int = 0x0100, count: int = 1, kind: int = 1, family: int = 1
) -> bytes:
    return struct.pack("!HHHHHH", 77, flags, count, 0, 0, 0) + name + struct.pack("!HH", kind, family)


def test_a_question_is_read_and_answered():
    question = read_question(query(b"\x01A\x04TeSt\0"))
    assert (question.identity, question.name, question.kind) == (77, "a.test", Kind.A)
    reply = answer(question, Code.NO_ERROR, [ipaddress.IPv4Address("198.18.1.2")])
    assert struct.unpack_from("!HHHHHH", reply) == (77, 0x8180, 1, 1, 0, 0)
    assert reply[12:].startswith(b"\x01A\x04TeSt\0")
    assert reply.endswith(b"\xc0\x0c\0\x01\0\x01\0\0\0\x3c\0\x04\xc6\x12\x01\x02")


def test_extra_sections_are_passed_over():
    assert read_question(query() + b"\0\0\x29\x10\0\0\0\0\0\0\0").name == "a.test"


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (b"", None),
        (b"\0" * 11, None),
        (query(flags=0x8000), None),
        (query(flags=0x2800), Code.NOT_IMPLEMENTED),
        (query(count=0), Code.FORMAT_ERROR),
        (query(count=2), Code.FORMAT_ERROR),
        (query(family=3), Code.FORMAT_ERROR),
        (query(b"\xc0\x0c"), Code.FORMAT_ERROR),
        (query(b"\x3fa")[:-4], Code.FORMAT_ERROR),
        (query()[:-1], Code.FORMAT_ERROR),
        (query(b"\x01a" * 128 + b"\0"), Code.FORMAT_ERROR),
    ],
)
def test_what_is_no_question_is_told_so_or_not_answered(packet, code):
    with pytest.raises(MalformedQuestion) as error:
        read_question(packet)
    assert (None if error.value.reply is None else error.value.reply[3] & 15) == code


def test_a_dot_inside_a_label_is_no_border():
    assert read_question(query(b"\x06a.test\0")).name == "a\\x2etest"
    assert read_question(query(b"\x01\xff\0")).name == "\\xff"


@given(st.binary(max_size=600))
def test_no_bytes_raise_anything_else(packet):
    for tried in (packet, query()[:12] + packet):
        try:
            question = read_question(tried)
        except MalformedQuestion:
            continue
        assert len(answer(question, Code.REFUSED)) <= len(tried)
