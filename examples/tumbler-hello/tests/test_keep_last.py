"""The context strategy `keep-last` keeps the contract, and the exchanges that it should."""

import pytest
from tumbler.contracts.context import ContextStrategy
from tumbler.contracts.values import Message
from tumbler.rollout.context import NamedStrategy, StrategyPipeline
from tumbler.testing import CharacterTokenizer, ContextStrategySuite, sample_task

from tumbler_hello.keep_last import KeepLast, KeepLastSettings


class TestKeepLast(ContextStrategySuite):
    """The contract."""

    @pytest.fixture
    def strategy(self) -> ContextStrategy:
        return KeepLast(KeepLastSettings())


async def test_the_last_exchanges_are_shown_with_the_task() -> None:
    strategy = KeepLast(KeepLastSettings(exchanges=2))
    log = StrategyPipeline(
        [NamedStrategy(name="keep-last", strategy=strategy)], CharacterTokenizer(), room=10, task=sample_task(), seed=0
    )
    log.append(Message(role="user", content="task"), pinned=True)
    for turn in "abc":
        log.append(Message(role="assistant", content=turn), sampled=True)
        log.append(Message(role="user", content=turn.upper()))
    assert [message.content for message in await log.messages()] == ["task", "b", "B", "c", "C"]
