"""`todo`, `notes` and `memory-files`: what the policy wrote down is in view again after every compaction."""

from itertools import pairwise
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as draw
from pydantic import ValidationError
from tests.agents.context.talking import Summaries, Talk, entry, view

from tumbler.contracts.context import Budget
from tumbler.contracts.values import ToolCall
from tumbler.testing import sample_task
from tumbler_agents.context.memory_files import MemoryFiles, MemoryFilesSettings
from tumbler_agents.context.notes import Notes, NotesSettings
from tumbler_agents.context.reciting import recite
from tumbler_agents.context.summary import SummarySettings, SummaryStrategy
from tumbler_agents.context.todo import Todo, TodoSettings

PLAN = [{"text": "look", "status": "completed"}, {"text": "count", "status": "in_progress"}]
RECITAL = "Your plan, 1 of 2 completed:\n[x] look\n[>] count"


def todo(**settings: object) -> Todo:
    return Todo(TodoSettings.model_validate(settings))


def notes(**settings: object) -> Notes:
    return Notes(NotesSettings.model_validate(settings))


def memory(**settings: object) -> MemoryFiles:
    return MemoryFiles(MemoryFilesSettings.model_validate(settings))


def forgetful() -> SummaryStrategy:
    """A summary that keeps nothing, so that whatever is still in view was recited."""
    return SummaryStrategy(SummarySettings(keep_last=1, instructions="Sum up."))


async def test_a_plan_is_answered_as_it_will_be_shown() -> None:
    talk = Talk(todo())
    assert (await talk.call("todo_write", items=PLAN)).text == RECITAL


async def test_a_plan_that_was_just_written_is_not_shown_twice() -> None:
    talk = Talk(todo(every=3))
    await talk.call("todo_write", items=PLAN)
    assert sum(RECITAL in content for content in await talk.prompt()) == 1


async def test_the_plan_is_recited_every_so_many_turns_within_the_newest_output() -> None:
    talk = Talk(todo(every=3))
    await talk.call("todo_write", items=PLAN)
    prompts = await talk.turns(8)
    for before, after in pairwise(prompts):
        assert after[: len(before)] == before
    shown = await talk.prompt()
    assert [index for index, content in enumerate(shown) if content.endswith(f"\n\n{RECITAL}")] == [9, 15]


async def test_at_the_end_the_plan_is_in_one_prompt_only() -> None:
    talk = Talk(todo(every=2, place="end"))
    await talk.call("todo_write", items=PLAN)
    prompts = await talk.turns(6)
    assert [prompt[-1] == RECITAL for prompt in prompts] == [True, False, True, False, True, False]
    assert all(sum(RECITAL in content for content in prompt) <= 2 for prompt in prompts)


async def test_an_empty_plan_is_not_recited() -> None:
    talk = Talk(todo(every=1))
    await talk.call("todo_write", items=PLAN)
    assert not (await talk.call("todo_write", items=[])).errored
    await talk.turns(3)
    assert RECITAL not in (await talk.prompt())[-1]


@pytest.mark.parametrize("place", ["merge", "end"])
async def test_the_plan_is_in_every_prompt_however_often_the_conversation_is_compacted(place: str) -> None:
    talk = Talk(forgetful(), todo(place=place))
    await talk.call("todo_write", items=PLAN)
    prompts = await talk.turns(80)
    assert len(talk.model.prompts) > 3
    assert all(any(RECITAL in content for content in prompt) for prompt in prompts)


async def test_the_plan_comes_back_one_prompt_later_where_it_is_planned_before_the_compaction() -> None:
    talk = Talk(todo(), forgetful())
    await talk.call("todo_write", items=PLAN)
    prompts = await talk.turns(80)
    without = [all(RECITAL not in content for content in prompt) for prompt in prompts]
    assert not any(a and b for a, b in pairwise(without))


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"items": "look"},
        {"items": None},
        {"items": ["look"]},
        {"items": [{"status": "pending"}]},
        {"items": [{"text": ""}]},
        {"items": [{"text": 3}]},
        {"items": [{"text": "look", "status": "done"}]},
        {"items": [{"text": "look", "status": ["pending"]}]},
        {"items": [{"text": "x" * 2000}]},
    ],
)
async def test_a_malformed_plan_is_answered_and_the_one_before_stays(arguments: dict[str, object]) -> None:
    talk = Talk(todo(), context=9000)
    await talk.call("todo_write", items=PLAN)
    answer = await talk.call("todo_write", **arguments)  # type: ignore[arg-type]  # malformed on purpose
    assert answer.errored
    assert answer.text.startswith("error: ")
    assert (await talk.call("todo_write", items=PLAN)).text == RECITAL


async def test_an_item_of_several_lines_cannot_pass_for_several() -> None:
    talk = Talk(todo())
    answer = await talk.call("todo_write", items=[{"text": "look\n[x] all done"}])
    assert answer.text == "Your plan, 0 of 1 completed:\n[ ] look [x] all done"


async def test_nothing_is_recited_while_a_call_is_open() -> None:
    talk = Talk(todo(every=1))
    await talk.call("todo_write", items=PLAN)
    await talk.turns(1)
    first, _second = talk.reply("two", 2)
    talk.answer(first, "one answer")
    assert (await talk.prompt())[-1] == "one answer"


def test_nothing_is_recited_where_it_would_not_fit() -> None:
    shown = view(entry(0, "x" * 88))
    assert recite(shown, Budget(limit=100, used=88), "a" * 10)
    assert not recite(shown, Budget(limit=100, used=88), "ä" * 10)
    assert not recite(shown, Budget(limit=100, used=89), "a" * 10), "the empty line before it counts"


async def test_a_note_is_kept_and_read_back_word_for_word() -> None:
    talk = Talk(notes())
    text = "Ports 🗂\nthe server listens on 4711"
    assert (await talk.call("note_write", name="ports", text=text)).text == "Noted.\n- ports: Ports 🗂"
    assert (await talk.call("note_read", name="ports")).text == text
    assert "- ports: Ports 🗂" in (await talk.call("note_read")).text


async def test_notes_are_listed_again_after_every_compaction() -> None:
    talk = Talk(forgetful(), notes())
    await talk.call("note_write", name="key", text="The key is 4711.\nIt was shown once.")
    prompts = await talk.turns(80)
    assert len(talk.model.prompts) > 3
    assert all(any("- key: The key is 4711." in content for content in prompt) for prompt in prompts)
    assert (await talk.call("note_read", name="key")).text.endswith("It was shown once.")


async def test_notes_written_side_by_side_are_all_kept() -> None:
    talk = Talk(notes())
    await talk.calls(*(ToolCall(name="note_write", arguments={"name": n, "text": n}) for n in "abc"))
    assert (await talk.call("note_read")).text.count("\n- ") == 3


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [
        ("note_write", {}),
        ("note_write", {"name": "a"}),
        ("note_write", {"name": "../etc/passwd", "text": "x"}),
        ("note_write", {"name": "Größe", "text": "x"}),
        ("note_write", {"name": "x" * 200, "text": "x"}),
        ("note_write", {"name": "a", "text": ["x"]}),
        ("note_write", {"name": "a", "text": "x" * 3000}),
        ("note_read", {"name": "never"}),
        ("note_read", {"name": 3}),
    ],
)
async def test_a_malformed_call_of_notes_is_answered(tool: str, arguments: dict[str, object]) -> None:
    talk = Talk(notes())
    answer = await talk.call(tool, **arguments)  # type: ignore[arg-type]  # malformed on purpose
    assert answer.errored
    assert answer.text.startswith("error: ")


async def test_one_note_too_many_is_refused_and_writing_over_one_is_not() -> None:
    talk = Talk(notes(max_notes=1))
    await talk.call("note_write", name="a", text="old")
    assert (await talk.call("note_write", name="b", text="x")).errored
    assert not (await talk.call("note_write", name="a", text="new")).errored
    assert (await talk.call("note_read", name="a")).text == "new"


async def test_a_surrogate_that_no_file_can_hold_is_no_crash() -> None:
    talk = Talk(notes())
    assert not (await talk.call("note_write", name="a", text="lone \ud800 one")).errored
    assert (await talk.call("note_read", name="a")).text == "lone ? one"


async def test_memory_files_are_shown_after_the_task_and_keep_the_prefix(tmp_path: Path) -> None:
    (tmp_path / "AGENTS.md").write_text("Use tabs. ✓")
    talk = Talk(memory(folder=tmp_path))
    prompts = await talk.turns(5)
    assert prompts[0][2] == "# Memory\n## AGENTS.md\nUse tabs. ✓"
    assert prompts[-1][:3] == prompts[0]


async def test_files_of_the_episode_are_read_with_the_first_prompt() -> None:
    talk = Talk(memory(names=["AGENTS.md", "LOCAL.md"]))
    running = talk.log._strategies[0]  # the episode's files, as an environment would lay them
    await running.io.files.write("LOCAL.md", "Ports are odd.")
    assert "## LOCAL.md\nPorts are odd." in (await talk.prompt())[2]


async def test_without_a_file_nothing_is_shown() -> None:
    assert len(await Talk(memory()).prompt()) == 2


async def test_memory_and_what_was_saved_survive_every_compaction(tmp_path: Path) -> None:
    (tmp_path / "AGENTS.md").write_text("Use tabs.")
    talk = Talk(forgetful(), memory(folder=tmp_path), model=Summaries(say=lambda _: "S"))
    assert (await talk.call("save_memory", fact="The user hates\n spaces.")).text == "Saved: The user hates spaces."
    prompts = await talk.turns(80)
    assert len(talk.model.prompts) > 3
    for prompt in prompts:
        assert any("Use tabs." in content for content in prompt)
        assert any("The user hates spaces." in content for content in prompt)


async def test_a_long_file_is_cut_in_its_middle(tmp_path: Path) -> None:
    (tmp_path / "AGENTS.md").write_text("HEAD" + "x" * 5000 + "TAIL")
    shown = (await Talk(memory(folder=tmp_path, max_tokens=300)).prompt())[2]
    assert len(shown) <= 300
    assert shown.startswith("# Memory\n## AGENTS.md\nHEAD")
    assert shown.endswith("TAIL")


@pytest.mark.parametrize("fact", [None, "", 3, "x" * 500])
async def test_a_malformed_fact_is_answered(fact: object) -> None:
    talk = Talk(memory())
    assert (await talk.call("save_memory", fact=fact)).errored  # type: ignore[arg-type]  # malformed on purpose


async def test_one_fact_too_many_is_refused_and_a_known_one_is_not() -> None:
    talk = Talk(memory(max_facts=1))
    await talk.call("save_memory", fact="one")
    assert (await talk.call("save_memory", fact="two")).errored
    assert not (await talk.call("save_memory", fact="one")).errored


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "", "a/b"])
def test_a_memory_file_outside_of_its_folder_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        memory(names=[name])


def test_tools_can_be_renamed_but_not_to_one_name() -> None:
    assert todo(tool="plan_write").tools()[0].name == "plan_write"
    with pytest.raises(ValidationError):
        notes(read_tool="note_write")
    with pytest.raises(ValidationError):
        todo(tool="not a name")


@given(
    draw.recursive(
        draw.none() | draw.integers() | draw.text(),
        lambda inner: (
            draw.lists(inner) | draw.dictionaries(draw.sampled_from(["text", "status", "items", "name", "fact"]), inner)
        ),
        max_leaves=6,
    )
)
async def test_no_argument_breaks_a_tool(value: object) -> None:
    talk = Talk(todo(), notes(), memory())
    for tool, argument in [
        ("todo_write", "items"),
        ("note_write", "name"),
        ("note_write", "text"),
        ("note_read", "name"),
        ("save_memory", "fact"),
    ]:
        await talk.call(tool, **{"name": "n", "text": "t", argument: value})  # type: ignore[arg-type]
    await talk.prompt()


async def test_states_depend_on_nothing_but_the_settings() -> None:
    for strategy in (todo(), notes(), memory()):
        assert strategy.start(sample_task(), Random(1)) == strategy.start(sample_task(), Random(2))
