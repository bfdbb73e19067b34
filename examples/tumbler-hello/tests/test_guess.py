"""The environment `guess` keeps the contract, and its expert needs few guesses."""

from collections.abc import Callable

import pytest
from tumbler.contracts.environment import Environment
from tumbler.contracts.values import ToolCall
from tumbler.testing import EnvironmentSuite

from tumbler_hello.guess import Guess, GuessSettings


class TestGuess(EnvironmentSuite):
    """The contract."""

    @pytest.fixture
    def make_environment(self) -> Callable[[], Environment]:
        return lambda: Guess(GuessSettings())


async def test_the_expert_halves_what_is_left() -> None:
    environment = Guess(GuessSettings(highest=1000))
    for task in await environment.tasks("train", count=50, seed=0):
        observation = (await environment.reset(task, seed=0, sandbox=None)).text
        expert, guesses = environment.expert(task, seed=0), 0
        while (action := expert.act(observation)) is not None:
            observation = (await environment.step(action.call)).observation
            guesses += 1
        assert guesses <= 10


async def test_a_guess_is_answered_with_the_direction() -> None:
    environment = Guess(GuessSettings(highest=2))
    (task,) = await environment.tasks("train", count=1, seed=0)
    await environment.reset(task, seed=0, sandbox=None)
    answers = [await environment.step(ToolCall(name="guess", arguments={"number": number})) for number in (0, 2, 1)]
    assert [each.observation for each in answers] == ["higher", "lower", "found"]
