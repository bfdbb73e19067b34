"""The first-party scaffolds keep the contract of agents."""

import pytest

from tumbler.testing import AgentSuite
from tumbler_agents.react.agent import ReactAgent
from tumbler_agents.react.settings import ReactSettings


class TestReact(AgentSuite):
    @pytest.fixture
    def agent(self):
        return ReactAgent(ReactSettings())


class TestReactWithoutASystemMessage(AgentSuite):
    @pytest.fixture
    def agent(self):
        return ReactAgent(ReactSettings(system_prompt="", observation_role="tool"))
