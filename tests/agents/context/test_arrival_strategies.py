import re
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as draw
from tests.agents.context.conversations import FakeIO, FolderFiles, Talk, count_words, events, live, pipeline, plan
from tests.agents.context.talking import Talk as Conversation

from tumbler.contracts.values import Message, ToolCall
from tumbler.testing import ContextStrategySuite
from tumbler_agents.context.offload_output import OffloadOutput, OffloadOutputSettings
from tumbler_agents.context.truncate_output import TruncateOutput, TruncateOutputSettings
from tumbler_agents.context.window import Window, WindowSettings

SIZES = {"max_tokens": 500, "preview_tokens": 300}
CALL = '<tool_call>\n{"name": "read", "arguments": {"path": "a.log"}}\n</tool_call>'
LONG = "".join(f"line {number}\n" for number in range(200))


def truncate(**fields):
    return TruncateOutput(TruncateOutputSettings(**{"max_tokens": 60, **fields}))


def offload(**fields):
    return OffloadOutput(OffloadOutputSettings(**{"max_tokens": 100, "preview_tokens": 60, **fields}))


class TestTruncateOutput(ContextStrategySuite):
    @pytest.fixture
    def strategy(self):
        return truncate(max_tokens=40)


class TestOffloadOutput(ContextStrategySuite):
    @pytest.fixture
    def strategy(self):
        return offload(max_tokens=50, preview_tokens=40)


@pytest.mark.parametrize("strategy", [truncate(), offload()])
class TestBoth:
    async def test_a_new_long_output_is_shown_shorter(self, strategy):
        talk = Talk()
        (long,) = talk.turn("$ cat a", LONG, shown=False)
        (edit,) = await plan(strategy, talk)
        assert edit.id == long.id and count_words(edit.content) <= 60 and "left out" in edit.content

    async def test_each_answer_to_parallel_calls_is_judged_by_itself(self, strategy):
        talk = Talk()
        first, _, third = talk.turn("$ cat a b c", LONG, "short", LONG, shown=False)
        assert [edit.id for edit in await plan(strategy, talk)] == [first.id, third.id]

    async def test_what_a_prompt_has_held_is_left_alone(self, strategy):
        talk = Talk()
        talk.turn("$ cat a", LONG, shown=True)
        assert await plan(strategy, talk, limit=10, why="overflow") == []

    async def test_task_users_and_the_policy_are_never_cut(self, strategy):
        talk = Talk(task=LONG)
        talk.turn(LONG, "ok", shown=False)
        talk.say(LONG, shown=False)
        assert await plan(strategy, talk) == []

    async def test_pinned_outputs_and_unanswered_calls_are_left_alone(self, strategy):
        talk = Talk()
        talk.turn("$ cat a", LONG, shown=False, pending=True)
        talk.exchange += 1
        talk.add("user", LONG, exchange=talk.exchange, pinned=True)
        assert await plan(strategy, talk) == []

    @pytest.mark.parametrize("output", ["", " ", "[200 tokens in 3 lines left out]", "word " * 20])
    async def test_short_outputs_stay_word_for_word(self, strategy, output):
        talk = Talk()
        talk.turn("$ cat a", output, shown=False)
        assert await plan(strategy, talk) == []

    async def test_an_output_that_was_cut_is_not_cut_again(self, strategy):
        talk = pipeline(strategy, context=5000)
        talk.append(Message(role="user", content="Look."), pinned=True)
        talk.append(Message(role="assistant", content="$ cat a"), sampled=True)
        talk.append(Message(role="user", content=LONG))
        first = await talk.messages()
        assert await talk.messages() == first


@settings(max_examples=60, deadline=None)
@given(happenings=events, which=draw.sampled_from([truncate(max_tokens=80), offload(max_tokens=150)]))
async def test_whatever_happens_views_only_grow(happenings, which):
    views = await live(pipeline(which, context=4000), "Count.", happenings)
    for before, after in pairwise(views):
        assert after[: len(before)] == before


def test_a_preview_longer_than_what_goes_to_a_file_is_refused():
    with pytest.raises(ValueError, match="preview_tokens = 60 is more than max_tokens = 50"):
        offload(max_tokens=50)


class TestOffloading:
    async def test_the_whole_output_is_in_the_file_that_the_preview_names(self):
        talk = Talk(FakeIO(files=FolderFiles()))
        (long,) = talk.turn("$ cat a", f"<tool_response>\n{LONG}\n</tool_response>", shown=False)
        (edit,) = await plan(offload(), talk)
        assert f"the whole output is in /tmp/context/output-{long.id}.txt]" in edit.content
        assert await talk.io.files.read(f"output-{long.id}.txt") == LONG

    async def test_without_a_sandbox_the_preview_names_the_tool(self):
        talk = Talk()
        (long,) = talk.turn("$ cat a", LONG, shown=False)
        (edit,) = await plan(offload(), talk)
        assert f"output-{long.id}.txt, read it with read_output]" in edit.content

    async def test_read_output_gives_the_whole_piece_by_piece(self):
        talk, strategy = Talk(), offload()
        text = "line of words 羊 é\n" * 60 + "x" * 3000
        (long,) = talk.turn("$ cat a", text, shown=False)
        await plan(strategy, talk)
        offset, read = 0, ""
        for _ in range(100):
            arguments = {"name": f"output-{long.id}.txt", "offset": offset, "limit": 700}
            answer = await strategy.call(ToolCall(name="read_output", arguments=arguments), talk.view, {})
            assert not answer.errored and count_words(answer.text) < 100
            piece, _, footer = answer.text.rpartition("\n")
            read += piece
            if "go on with" not in footer:
                break
            offset = int(footer.rstrip("]").rpartition("=")[2])
        assert read == text

    async def test_reading_goes_on_even_where_nothing_has_room(self):
        talk, strategy = Talk(), offload(max_tokens=10, preview_tokens=10)
        (long,) = talk.turn("$ cat a", LONG, shown=False)
        await plan(strategy, talk)
        call = ToolCall(name="read_output", arguments={"name": f"/tmp/context/output-{long.id}.txt"})
        answer = await strategy.call(call, talk.view, {})
        assert answer.text == f"l\n[characters 0 to 1 of {len(LONG)}; go on with offset=1]"

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            ({}, "there is no output ''"),
            ({"name": "output-99.txt"}, "there is no output"),
            ({"name": "../notes.md"}, "there is no output 'notes.md'"),
            ({"name": "output-3.txt", "offset": -1}, "offset must be"),
            ({"name": "output-3.txt", "offset": "0"}, "offset must be"),
            ({"name": "output-3.txt", "limit": 0}, "limit one from 1"),
            ({"name": "output-3.txt", "offset": 10**9}, "offset must be below that"),
        ],
    )
    async def test_calls_that_cannot_be_carried_out_are_answered(self, arguments, words):
        talk, strategy = Talk(), offload()
        await talk.io.files.write("notes.md", "secret")
        talk.turn("$ cat a", LONG, shown=False)
        await plan(strategy, talk)
        answer = await strategy.call(ToolCall(name="read_output", arguments=arguments), talk.view, {})
        assert answer.errored and words in answer.text

    def test_the_tool_is_described_by_a_schema(self):
        (tool,) = offload().tools()
        assert tool.name == "read_output" and tool.parameters["required"] == ["name"]


class TestNamingFilesAgain:
    """A file is of use only to who knows its name."""

    def talk(self, *, context=2400, **fields):
        window = Window(WindowSettings(keep_first=0, keep_last=1))
        return Conversation(OffloadOutput(OffloadOutputSettings(**{**SIZES, **fields})), window, context=context)

    async def test_a_file_whose_name_a_window_took_is_named_again_one_prompt_later_and_once(self):
        talk = self.talk()
        await talk.prompt()
        talk.turn(CALL, LONG)
        prompts = await talk.turns(30)
        named = [sum("output-3.txt" in content for content in prompt) for prompt in prompts]
        assert max(named) == 1 and not any(before == after == 0 for before, after in pairwise(named))
        (line,) = {line for content in prompts[-1] for line in content.splitlines() if "output-3.txt" in line}
        assert line == (
            '- read {"path": "a.log"}: 1690 tokens; the whole output is in output-3.txt, read it with read_output'
        )

    async def test_where_the_call_cannot_be_told_the_first_line_stands_for_it(self):
        talk = self.talk()
        await talk.prompt()
        talk.turn("no call", f"<tool_response>\n\n  build   log\n{LONG}\n</tool_response>")
        assert any("- build log: " in content for content in (await talk.turns(30))[-1])

    async def test_the_newest_files_are_named_again_also_beside_a_new_long_output(self):
        talk = self.talk(recall=2)
        for _ in range(12):
            await talk.prompt()
            talk.turn(CALL, LONG)
        named = {word for content in await talk.prompt() for word in re.findall(r"output-\d+.txt", content)}
        assert named >= {f"output-{entry}.txt" for entry in (23, 25)} and "output-3.txt" not in named
        assert len(talk.state["files"]) == 2

    async def test_none_is_named_again_where_none_shall_be(self):
        talk = self.talk(recall=0)
        await talk.prompt()
        talk.turn(CALL, LONG)
        assert not any("output-3.txt" in content for content in (await talk.turns(30))[-1])
        assert talk.state == {"files": {}}

    async def test_a_file_is_not_named_again_while_its_preview_is_in_view(self):
        talk = self.talk(context=50_000)
        await talk.prompt()
        talk.turn(CALL, LONG)
        assert sum("output-3.txt" in content for content in (await talk.turns(30))[-1]) == 1
