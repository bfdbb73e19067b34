"""The settings as a registry has them."""

import tomllib

import pytest
from pydantic import ValidationError

from tumbler_agents.iflow.plugin import tumbler_agents
from tumbler_agents.iflow.settings import IflowSettings

TOML = """
dialect = "hermes"
exclude = ["save_memory"]
plan = true

[mcp.time]
command = "mcp-server-time"

[memory]
names = ["AGENTS.md", "CLAUDE.md"]

[[approval.rules]]
tool = "shell"
matches = '\\brm\\b'
decision = "deny"

[[hooks]]
event = "after_tool"
command = "cat > /tmp/last"
matcher = "write"

[[sub_agents.agents]]
name = "scout"
description = "Looks."
prompt = "Look."
"""


def test_all_features_can_be_set_in_a_file_and_come_back_from_json():
    settings = IflowSettings.model_validate(tomllib.loads(TOML))
    assert settings.sub_agents.agents[0].name == "scout"
    assert IflowSettings.model_validate_json(settings.model_dump_json()) == settings


@pytest.mark.parametrize(
    "wrong",
    [
        {"dialect": "latin"},
        {"stop_after_repeats": 1},
        {"hooks": [{"event": "never", "command": "true"}]},
        {"approval": {"rules": [{"matches": "(", "decision": "deny"}]}},
        {"sub_agents": {"agents": [{"name": "Two Words", "description": "d", "prompt": "p"}]}},
        {"mcp": {"both": {"command": "a", "url": "http://b"}}},
        {"colour": "red"},
    ],
)
def test_what_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValidationError):
        IflowSettings.model_validate(wrong)


def test_every_setting_is_described():
    schema = IflowSettings.model_json_schema()
    for name, model in {"IflowSettings": schema, **schema["$defs"]}.items():
        bare = [field for field, each in model.get("properties", {}).items() if not each.get("description")]
        assert not bare, f"{name} does not describe {bare}"


def test_the_plugin_names_what_it_offers():
    (spec,) = tumbler_agents()
    assert spec.config() is IflowSettings
    assert spec.load()(IflowSettings()) is not None
