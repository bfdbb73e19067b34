"""The three agents are registered with what they need."""

import pytest

from tumbler.config import Settings
from tumbler.contracts.agent import Agent
from tumbler_agents.process.plugin import tumbler_agents

SETTINGS = {"process": {"launch": ("true",)}}


@pytest.mark.parametrize("spec", tumbler_agents(), ids=lambda spec: spec.name)
def test_an_agent_is_built_from_its_settings_alone(spec):
    settings = spec.config()(**SETTINGS.get(spec.name, {}))
    assert isinstance(settings, Settings)
    assert isinstance(spec.load()(settings), Agent)
    assert {"sandbox", "gateway"} <= set(spec.needs)
