"""The recorder keeps sampled ids as they are and opens a segment whenever history is not extended."""

from tumbler.contracts.values import Message
from tumbler.rollout.recorder import Recorder
from tumbler.testing.fakes import CharacterTokenizer
from tumbler.trajectory import Chunk

SYSTEM = Message(role="system", content="be brief")
USER = Message(role="user", content="hi")
NEXT = Message(role="user", content="and?")


def reply(recorder: Recorder, agent_id: str, messages: list[Message], text: str) -> int:
    recorder.open_call(agent_id, messages)
    tokenizer = CharacterTokenizer()
    token_ids = [*tokenizer.encode(text), tokenizer.end_of_turn]
    chunk = Chunk(segment=0, start=0, end=0, text=text, sampled=False, trainable=False)
    return recorder.close_call(agent_id, token_ids, chunk)


def test_an_extended_conversation_stays_in_one_segment_and_ends_as_the_template_renders_it() -> None:
    recorder = Recorder(CharacterTokenizer())
    reply(recorder, "main", [SYSTEM, USER], "yes")
    reply(recorder, "main", [SYSTEM, USER, Message(role="assistant", content="yes"), NEXT], "no")
    (segment,) = recorder.segments
    text = "".join(map(chr, segment.token_ids))
    assert text == "system\nbe brief\x03user\nhi\x03assistant\nyes\x03user\nand?\x03assistant\nno\x03"
    spans = [text[chunk.start : chunk.end] for chunk in recorder.chunks]
    assert spans == ["yes\x03", "no\x03"]


def test_a_rewritten_conversation_opens_a_segment_with_its_cause_and_parent() -> None:
    recorder = Recorder(CharacterTokenizer())
    reply(recorder, "main", [SYSTEM, USER], "yes")
    reply(recorder, "main", [SYSTEM, Message(role="user", content="summary"), NEXT], "no")
    assert [(segment.cause, segment.parent) for segment in recorder.segments] == [("start", None), ("rewrite", 0)]
    assert [chunk.segment for chunk in recorder.chunks] == [0, 1]


def test_another_reply_text_than_the_recorded_one_is_a_rewrite() -> None:
    recorder = Recorder(CharacterTokenizer())
    reply(recorder, "main", [USER], "yes")
    reply(recorder, "main", [USER, Message(role="assistant", content="Yes"), NEXT], "no")
    assert len(recorder.segments) == 2


def test_a_sub_agent_has_segments_of_its_own_and_leaves_the_main_thread_intact() -> None:
    recorder = Recorder(CharacterTokenizer())
    reply(recorder, "main", [USER], "yes")
    reply(recorder, "helper", [SYSTEM, USER], "sub")
    reply(recorder, "main", [USER, Message(role="assistant", content="yes"), NEXT], "no")
    assert [segment.agent_id for segment in recorder.segments] == ["main", "helper"]
    assert [chunk.segment for chunk in recorder.chunks] == [0, 1, 0]
    assert recorder.segments[1].cause == "sub-agent"
