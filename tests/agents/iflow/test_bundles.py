"""Workflows, files of sub-agents, MCP servers: what settings name is there, and mistakes are told with their place."""

from pathlib import Path

import pytest
from tests.agents.iflow.scripted import ScriptedChat, call, events_of, host_of
from tests.agents.mcp.servers import offering

from tumbler.contracts.conversation import CallEnded
from tumbler.errors import ComponentNotFoundError, RegistryError
from tumbler_agents.iflow.conversation import opened
from tumbler_agents.iflow.definitions import SubAgent, SubAgentSettings, parse_definition, read_definitions
from tumbler_agents.iflow.settings import IflowSettings
from tumbler_agents.iflow.workflows import Command, load_workflow

BUNDLE = """
summary = "Writes releases."
system_prompt = "You write releases."
memory = { style = "Be terse." }
memory_files = ["rules.md"]

[[agents]]
name = "checker"
description = "Checks."
prompt = "Check it."

[commands.release]
description = "Write the notes of a release."
prompt = "Write the notes of $1; also: $ARGUMENTS"

[[hooks]]
event = "stop"
command = "true"
where = "host"
"""

SCOUT = """---
name: scout
description: "Looks around: everywhere"
include: [read*, list]
turns: 3
---

You are a scout.
"""


@pytest.fixture
def workflows(tmp_path):
    home = tmp_path / "workflows" / "release"
    (home / "agents").mkdir(parents=True)
    (home / "workflow.toml").write_text(BUNDLE)
    (home / "rules.md").write_text("Never lie.")
    (home / "agents" / "scout.md").write_text(SCOUT)
    return tmp_path / "workflows"


async def test_a_workflow_brings_prompt_memory_agents_commands_and_hooks(workflows):
    chat = ScriptedChat(call("task", prompt="Look.", agent="scout"), "found", "done")
    async with opened(IflowSettings(workflow="release", workflows=workflows), host_of(chat)) as conversation:
        shown = await events_of(conversation, "/help")
        await events_of(conversation, "/release 1.2 with care")
        assert [record.event for record in conversation.hook_records] == ["stop"]
    assert "/release  Write the notes of a release." in shown[0].text
    system, user = (message.content for message in chat.asked[0])
    for text in ("You write releases.", "Be terse.", "Never lie."):
        assert text in system
    assert user == "Write the notes of 1.2; also: 1.2 with care"
    assert chat.asked[1][0].content.startswith("You are a scout.")


async def test_a_workflow_that_is_not_there_is_told_with_those_that_are(workflows):
    with pytest.raises(ComponentNotFoundError, match="Did you mean 'release'"):
        load_workflow("relaese", workflows)
    with pytest.raises(ComponentNotFoundError, match="no folder of workflows is set"):
        load_workflow("release", None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("agents = 3", "agents"),
        ("[broken", "workflow.toml"),
        ('colour = "red"', "colour"),
        ('memory_files = ["../../secret.md"]', "no file of the bundle"),
        ('memory_files = ["none.md"]', "none.md"),
    ],
)
def test_a_workflow_that_cannot_be_read_says_where(workflows, text, said):
    (workflows.parent / "secret.md").write_text("hidden")
    (workflows / "release" / "workflow.toml").write_text(text)
    with pytest.raises(RegistryError, match=said):
        load_workflow("release", workflows)


@pytest.mark.parametrize(
    ("prompt", "arguments", "filled"),
    [
        ("Do $1 then $2.", "a b", "Do a then b."),
        ("Do $1 then $2.", "a", "Do a then ."),
        ("Do it.", "now", "Do it.\n\nnow"),
        ("Do it.", "", "Do it."),
        ("All: $ARGUMENTS", "$1 and more", "All: $1 and more"),
    ],
)
def test_arguments_stand_where_the_command_has_places_for_them(prompt, arguments, filled):
    assert Command(prompt=prompt).filled(arguments) == filled


def test_a_sub_agents_file_gives_its_settings_and_its_prompt():
    assert parse_definition(SCOUT, "scout.md") == SubAgent(
        name="scout",
        description="Looks around: everywhere",
        include=("read*", "list"),
        turns=3,
        prompt="You are a scout.",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("no front matter", "between lines of ---"),
        ("---\nname: x\n", "between lines of ---"),
        ("---\nname x\n---\np", "key: value"),
        ("---\nname: Bad Name\ndescription: d\n---\np", "name"),
        ("---\nname: x\ndescription: d\ncolor: red\n---\np", "color"),
        ("---\nname: x\ndescription: d\n---\n", "prompt"),
    ],
)
def test_a_bad_file_says_which_and_what(text, said):
    with pytest.raises(RegistryError, match=f"a.md: .*{said}"):
        parse_definition(text, "a.md")


def test_two_files_with_one_name_are_refused(tmp_path):
    for name in ("a.md", "b.md"):
        (tmp_path / name).write_text(SCOUT)
    with pytest.raises(RegistryError, match="another file"):
        read_definitions(tmp_path)


async def test_sub_agents_of_a_folder_are_on_offer_and_one_may_replace_the_general_one(tmp_path):
    (tmp_path / "general.md").write_text(SCOUT.replace("name: scout", "name: general"))
    chat = ScriptedChat(call("task", prompt="Look."), "found", "done")
    settings = IflowSettings(sub_agents=SubAgentSettings(folder=tmp_path))
    async with opened(settings, host_of(chat)) as conversation:
        await events_of(conversation, "Go.")
    assert chat.asked[1][0].content.startswith("You are a scout.")


async def test_tools_of_mcp_servers_are_on_offer_and_sub_agents_inherit_them_if_told_so():
    shy = SubAgent(name="shy", description="Has none.", prompt="You are shy.", mcp=False)
    seen = []

    class Watching(ScriptedChat):
        async def chat(self, messages, tools=(), **settings):
            seen.append({tool.name for tool in tools})
            return await super().chat(messages, tools, **settings)

    chat = Watching(
        call("task", prompt="Go."),
        "found",
        call("task", prompt="Go.", agent="shy"),
        "none",
        call("box__add", a=1, b=2),
        "It is 3.",
    )
    settings = IflowSettings(mcp={"box": offering()}, sub_agents=SubAgentSettings(agents=(shy,)))
    async with opened(settings, host_of(chat)) as conversation:
        events = await events_of(conversation, "Go.")
    with_tools = [any(name.startswith("box__") for name in names) for names in seen]
    assert with_tools == [True, True, True, False, True, True]
    assert [event.text for event in events if isinstance(event, CallEnded)][-1] == "3"


@pytest.mark.parametrize(
    ("name", "told"), [("two words", "cannot be typed behind a slash"), ("help", "/help is the scaffold's own command")]
)
def test_a_command_that_nobody_could_call_is_refused(tmp_path, name, told):
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "workflow.toml").write_text(f'commands."{name}" = {{ prompt = "x" }}')
    with pytest.raises(RegistryError, match=told):
        load_workflow("odd", tmp_path)


@pytest.mark.parametrize("file", ["workflow.toml", "rules.md", "agents/x.md"])
def test_a_file_of_a_bundle_that_is_no_text_is_named(tmp_path, file):
    home = tmp_path / "odd"
    (home / "agents").mkdir(parents=True)
    for name, text in {"workflow.toml": 'memory_files = ["rules.md"]', "rules.md": "rules"}.items():
        (home / name).write_text(text)
    (home / file).write_bytes(b"caf\xe9")
    with pytest.raises(RegistryError, match=f"{file} is not written in UTF-8"):
        load_workflow("odd", tmp_path)


def test_the_folder_of_workflows_may_be_named_from_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "workflows" / "plain").mkdir(parents=True)
    (tmp_path / "workflows" / "plain" / "workflow.toml").write_text('summary = "x"')
    assert load_workflow("plain", Path("~/workflows")).summary == "x"
