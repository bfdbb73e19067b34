"""The recorder keeps sampled ids as they are and opens a segment whenever history is not extended."""

from tumbler.contracts.environment import StepResult
from tumbler.contracts.values import Message, ToolCall
from tumbler.rollout.recorder import OpenCall, Recorder
from tumbler.testing.fakes import CharacterTokenizer
from tumbler.trajectory import Chunk

SYSTEM = Message(role="system", content="be brief")
USER = Message(role="user", content="hi")
NEXT = Message(role="user", content="and?")


def reply(recorder: Recorder, agent_id: str, messages: list[Message], text: str) -> int:
    call = recorder.open_call(agent_id, messages)
    return answer(recorder, call, text)


def answer(recorder: Recorder, call: OpenCall, text: str) -> int:
    tokenizer = CharacterTokenizer()
    token_ids = [*tokenizer.encode(text), tokenizer.end_of_turn]
    chunk = Chunk(segment=0, start=0, end=0, text=text, sampled=False, trainable=False)
    return recorder.close_call(call, token_ids, chunk)


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


def said(recorder: Recorder, segment: int) -> str:
    return "".join(map(chr, recorder.segments[segment].token_ids))


def test_what_is_unchanged_before_a_rewrite_keeps_its_sampled_ids() -> None:
    recorder = Recorder(CharacterTokenizer())
    call = recorder.open_call("main", [USER])
    odd = [0x10FFFF, *map(ord, "yes"), 3]  # ids that no text gives again
    recorder.close_call(call, odd, Chunk(segment=0, start=0, end=0, text="yes", sampled=False, trainable=False))
    told = [USER, Message(role="assistant", content="yes"), NEXT]
    reply(recorder, "main", told, "no")
    reply(recorder, "main", [*told[:2], Message(role="user", content="short")], "maybe")
    assert [segment.cause for segment in recorder.segments] == ["start", "rewrite"]
    assert recorder.segments[1].token_ids[: len("user\nhi\x03assistant\n") + 5] == (
        *map(ord, "user\nhi\x03assistant\n"),
        *odd,
    )


def test_two_calls_side_by_side_share_the_history_and_each_keeps_its_own_reply() -> None:
    recorder = Recorder(CharacterTokenizer())
    reply(recorder, "main", [USER], "yes")
    told = [USER, Message(role="assistant", content="yes")]
    one = recorder.open_call("main", [*told, Message(role="user", content="one")])
    two = recorder.open_call("main", [*told, Message(role="user", content="two")])
    second, first = answer(recorder, two, "2"), answer(recorder, one, "1")
    assert [segment.cause for segment in recorder.segments] == ["start", "parallel"]
    assert [recorder.chunks[index].segment for index in (first, second)] == [0, 1]
    assert said(recorder, 0).endswith("user\none\x03assistant\n1\x03")
    assert said(recorder, 1).endswith("user\ntwo\x03assistant\n2\x03")
    assert said(recorder, 1).startswith("user\nhi\x03assistant\nyes\x03")


def test_an_abandoned_call_leaves_no_trace() -> None:
    recorder = Recorder(CharacterTokenizer())
    reply(recorder, "main", [USER], "yes")
    before = recorder.segments, recorder.chunks
    told = [USER, Message(role="assistant", content="yes"), NEXT]
    recorder.abandon_call(recorder.open_call("main", told))
    recorder.abandon_call(recorder.open_call("helper", [USER]))
    assert recorder.segments == before[0]
    reply(recorder, "main", told, "no")
    assert len(recorder.segments) == 1


def test_the_same_prompt_again_is_a_retry_with_the_history_of_the_first() -> None:
    recorder = Recorder(CharacterTokenizer())
    reply(recorder, "main", [USER], "yes")
    told = [USER, Message(role="assistant", content="yes"), NEXT]
    reply(recorder, "main", told, "no")
    reply(recorder, "main", told, "maybe")
    assert [segment.cause for segment in recorder.segments] == ["start", "retry"]
    assert said(recorder, 1) == said(recorder, 0)[: -len("no\x03")] + "maybe\x03"


def test_two_first_calls_at_once_are_two_segments_of_which_one_starts_the_episode() -> None:
    recorder = Recorder(CharacterTokenizer())
    calls = [recorder.open_call("main", [Message(role="user", content=word)]) for word in ("a", "b")]
    for call in calls:
        answer(recorder, call, "yes")
    assert [segment.cause for segment in recorder.segments] == ["start", "parallel"]


def test_what_follows_a_reply_is_its_observation_where_nobody_noted_one() -> None:
    recorder = Recorder(CharacterTokenizer())
    reply(recorder, "main", [USER], "yes")
    reply(recorder, "main", [USER, Message(role="assistant", content="yes"), NEXT, SYSTEM], "no")
    assert recorder.chunks[0].observation == "and?\nbe brief"


def test_a_conversation_that_says_what_an_earlier_one_did_goes_on_where_it_stands_itself() -> None:
    recorder = Recorder(CharacterTokenizer())
    told = [USER]
    for _ in range(4):
        reply(recorder, "main", told, "look")
        told += [Message(role="assistant", content="look"), NEXT]
    shorter = told[:5]
    reply(recorder, "main", shorter, "look")
    reply(recorder, "main", [*shorter, Message(role="assistant", content="look"), NEXT], "look")
    assert [chunk.segment for chunk in recorder.chunks] == [0, 0, 0, 0, 1, 1]


def test_a_call_abandoned_after_another_on_its_conversation_closed_changes_nothing() -> None:
    recorder = Recorder(CharacterTokenizer())
    reply(recorder, "main", [USER], "yes")
    told = [USER, Message(role="assistant", content="yes"), NEXT]
    given_up, kept = recorder.open_call("main", told), recorder.open_call("main", told)
    answer(recorder, kept, "no")
    recorder.abandon_call(given_up)
    reply(recorder, "main", [*told, Message(role="assistant", content="no"), NEXT], "so")
    reply(recorder, "main", told, "again")
    assert [segment.cause for segment in recorder.segments] == ["start", "parallel"]
    assert [chunk.segment for chunk in recorder.chunks] == [0, 1, 1, 0]


def test_an_empty_reply_that_ends_its_turn_can_be_gone_on_from() -> None:
    recorder = Recorder(CharacterTokenizer())
    reply(recorder, "main", [USER], "")
    reply(recorder, "main", [USER, Message(role="assistant", content=""), NEXT], "yes")
    assert said(recorder, 0) == "user\nhi\x03assistant\n\x03user\nand?\x03assistant\nyes\x03"


def test_agents_that_say_the_same_have_conversations_of_their_own() -> None:
    recorder = Recorder(CharacterTokenizer())
    for agent in ("one", "other"):
        reply(recorder, agent, [USER], "yes")
    for agent in ("other", "one"):
        reply(recorder, agent, [USER, Message(role="assistant", content="yes"), NEXT], "no")
    assert [segment.agent_id for segment in recorder.segments] == ["one", "other"]
    assert [chunk.segment for chunk in recorder.chunks] == [0, 1, 1, 0]


def test_parallel_calls_that_get_equal_replies_are_two_chunks_and_one_of_them_goes_on() -> None:
    recorder = Recorder(CharacterTokenizer())
    calls = [recorder.open_call("main", [USER]) for _ in range(2)]
    for call in calls:
        answer(recorder, call, "yes")
    reply(recorder, "main", [USER, Message(role="assistant", content="yes"), NEXT], "no")
    assert [segment.cause for segment in recorder.segments] == ["start", "parallel"]
    assert [chunk.segment for chunk in recorder.chunks] == [0, 1, 1]


def test_what_a_chunk_brought_is_kept_in_order_also_where_some_calls_could_not_be_made() -> None:
    recorder = Recorder(CharacterTokenizer())
    reply(recorder, "main", [USER], "yes")
    recorder.note_call(0, ToolCall(name="look"), StepResult(observation=""))
    recorder.note_rejection(0, "no such tool")
    recorder.note_call(0, ToolCall(name="look"), StepResult(observation="a room"))
    (chunk,) = recorder.chunks
    assert (chunk.observation, chunk.errored, len(chunk.tool_calls)) == ("\nno such tool\na room", True, 2)
