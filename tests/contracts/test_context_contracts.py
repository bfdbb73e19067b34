"""The first-party context strategies keep the contract of strategies."""

import pytest

from tumbler.config import NoSettings
from tumbler.testing import ContextStrategySuite
from tumbler_agents.context.none import NoStrategy


class TestNone(ContextStrategySuite):
    @pytest.fixture
    def strategy(self):
        return NoStrategy(NoSettings())
