"""`iflow` keeps the contract of agents, in both dialects."""

import pytest

from tumbler.testing import AgentSuite
from tumbler_agents.iflow.agent import IflowAgent
from tumbler_agents.iflow.settings import IflowSettings


class TestIflow(AgentSuite):
    @pytest.fixture
    def agent(self):
        return IflowAgent(IflowSettings())


class TestIflowInThePlainDialect(AgentSuite):
    @pytest.fixture
    def agent(self):
        return IflowAgent(IflowSettings(dialect="plain"))
