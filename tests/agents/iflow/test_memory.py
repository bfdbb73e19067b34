"""Memory files: where they are read from, what they import, and what is added to them."""

import pytest
from pydantic import ValidationError
from tests.agents.iflow.scripted import ScriptedChat, call, events_of, host_of

from tumbler_agents.iflow.conversation import opened
from tumbler_agents.iflow.imports import DEEPEST, MOST, expanded
from tumbler_agents.iflow.memory import Memory, MemorySettings, memory_tool
from tumbler_agents.iflow.settings import IflowSettings
from tumbler_agents.iflow.texts import GivenTexts, SandboxTexts


def memory(texts=None, **settings):
    return Memory(MemorySettings(**settings), GivenTexts(texts))


async def test_general_files_come_before_the_projects():
    shown = await memory({"/etc/rules.md": "general", "AGENTS.md": "project"}, general=("/etc/rules.md",)).opening()
    assert shown.index("general") < shown.index("project")


async def test_of_several_names_the_first_that_is_there_is_read():
    shown = await memory({"B.md": "second", "C.md": "third"}, names=("A.md", "B.md", "C.md")).opening()
    assert "second" in shown and "third" not in shown


async def test_folders_below_are_read_on_the_way_down_and_each_once():
    texts = {"src/AGENTS.md": "of src", "src/a/AGENTS.md": "of a", "AGENTS.md": "of all"}
    kept = memory(texts)
    await kept.opening()
    shown = await kept.below(["src/a/x.py", "src/y.py"])
    assert shown.index("of src") < shown.index("of a") and shown.count("of src") == 1
    assert "of all" not in shown
    assert await kept.below(["src/a/x.py"]) == ""
    kept.forget_shown()
    assert "of a" in await kept.below(["src/a/x.py"])


@pytest.mark.parametrize("path", ["/etc/passwd", "../other/x", "src/../../x", "x"])
async def test_files_outside_of_the_project_bring_no_memory(path):
    kept = memory({"etc/AGENTS.md": "no", "../other/AGENTS.md": "no", "../AGENTS.md": "no"})
    assert await kept.below([path]) == ""


async def test_long_memory_is_cut():
    assert len(await memory({"AGENTS.md": "x" * 5000}, characters=1000).opening()) < 1100


def test_a_memory_files_name_is_no_path():
    with pytest.raises(ValidationError, match="general"):
        MemorySettings(names=("docs/AGENTS.md",))


async def test_imports_stand_in_place_relative_to_the_file_that_names_them():
    texts = GivenTexts({"docs/a.md": "A, see @b.md.", "docs/b.md": "B"})
    assert await expanded(texts, "AGENTS.md", "See @docs/a.md!") == "See A, see B.!"


async def test_what_is_no_file_or_stands_in_code_stays_as_it_is():
    texts = GivenTexts({"a.md": "no", "x": "no"})
    text = "mail me@a.md, ask @someone, `@a.md`\n```\n@a.md\n```\n~~~\n@x\n~~~"
    assert await expanded(texts, "AGENTS.md", text) == text


async def test_imports_in_a_circle_end():
    texts = GivenTexts({"AGENTS.md": "start @a.md", "a.md": "a @b.md", "b.md": "b @a.md @AGENTS.md"})
    shown = await expanded(texts, "AGENTS.md", texts.texts["AGENTS.md"])
    assert shown.count("imports itself") == 2 and shown.startswith("start a b ")


async def test_imports_are_followed_five_deep():
    texts = GivenTexts({f"{depth}.md": f"level{depth} @{depth + 1}.md" for depth in range(10)})
    shown = await expanded(texts, "AGENTS.md", "@0.md")
    assert f"level{DEEPEST - 1}" in shown and f"level{DEEPEST} " not in shown
    assert "more than 5 imports deep" in shown


async def test_the_same_file_may_be_imported_twice():
    texts = GivenTexts({"a.md": "A"})
    assert await expanded(texts, "AGENTS.md", "@a.md @a.md") == "A A"


async def test_a_saved_fact_is_added_to_the_section_of_saved_memories(box):
    await box.write("AGENTS.md", b"# Project\n\n## Saved memories\n- one\n\n## Style\nShort.\n")
    tool = memory_tool(Memory(MemorySettings(), SandboxTexts(box)))
    assert not (await tool.call({"fact": "two\nlines"})).errored
    content = (await box.read("AGENTS.md")).decode()
    assert content == "# Project\n\n## Saved memories\n- one\n- two lines\n\n## Style\nShort.\n"


async def test_the_first_saved_fact_makes_the_file(box):
    kept = Memory(MemorySettings(), SandboxTexts(box))
    await kept.save("one", general=False)
    await kept.save("two", general=False)
    assert (await box.read("AGENTS.md")).decode() == "## Saved memories\n- one\n- two\n"
    assert "- two" in await Memory(MemorySettings(), SandboxTexts(box)).opening()


async def test_a_general_fact_needs_a_general_file():
    answer = await memory_tool(memory({})).call({"fact": "x", "scope": "general"})
    assert answer.errored and "scope project" in answer.text


async def test_the_agent_is_told_what_the_projects_file_says(box):
    await box.write("AGENTS.md", b"Use tabs. @more.md\n")
    await box.write("more.md", b"And no semicolons.\n")
    chat = ScriptedChat(call("save_memory", fact="The tests are slow."), "done")
    async with opened(IflowSettings(), host_of(chat, sandbox=box)) as conversation:
        await events_of(conversation, "Go.")
        shown = await events_of(conversation, "/memory")
    assert "Use tabs. And no semicolons." in chat.asked[0][0].content
    assert "tests are slow" in shown[0].text
    assert b"tests are slow" in await box.read("AGENTS.md")


async def test_a_sub_agent_is_told_the_projects_rules_too(box):
    await box.write("AGENTS.md", b"Use tabs.\n")
    chat = ScriptedChat(call("task", prompt="Look."), "found", "done")
    async with opened(IflowSettings(), host_of(chat, sandbox=box)) as conversation:
        await events_of(conversation, "Go.")
    assert "Use tabs." in chat.asked[1][0].content


@pytest.mark.parametrize("content", [b"x" * (300 << 10), b"caf\xe9\n"])
async def test_a_saved_fact_leaves_a_file_that_cannot_be_shown_as_it_is(box, content):
    await box.write("AGENTS.md", content)
    await Memory(MemorySettings(), SandboxTexts(box)).save("one", general=False)
    assert (await box.read("AGENTS.md")).startswith(content.rstrip())


async def test_a_saved_fact_goes_through_a_link_and_leaves_the_files_mode(box):
    await box.write("CLAUDE.md", b"# Rules\n", mode=0o600)
    await box.exec("ln -s CLAUDE.md AGENTS.md", check=True)
    await Memory(MemorySettings(), SandboxTexts(box)).save("one", general=False)
    assert (await box.read("CLAUDE.md")).decode() == "# Rules\n\n## Saved memories\n- one\n"
    assert (await box.exec("readlink AGENTS.md; stat -c %a CLAUDE.md")).stdout == b"CLAUDE.md\n600\n"


async def test_a_saved_fact_goes_into_the_file_that_is_read_and_hides_it_from_no_later_conversation():
    texts = GivenTexts({"CONTRIBUTING.md": "old rules"})
    settings = MemorySettings(names=("AGENTS.md", "CONTRIBUTING.md"))
    assert await Memory(settings, texts).save("one", general=False) == "CONTRIBUTING.md"
    shown = await Memory(settings, texts).opening()
    assert "old rules" in shown and "one" in shown


async def test_imports_that_multiply_are_looked_up_so_many_times_and_no_more():
    class Counted(GivenTexts):
        asked = 0

        async def read(self, path):
            self.asked += 1
            return await super().read(path)

    texts = Counted({f"m{level}.md": " ".join([f"@m{level + 1}.md"] * 8) for level in range(8)})
    shown = await expanded(texts, "AGENTS.md", "@m0.md")
    assert texts.asked == MOST and f"more than {MOST} names" in shown
