"""The suite of environments passes a sound implementation, and catches each fault with the right test."""

import random
from dataclasses import replace

import pytest

from tumbler.contracts.environment import EnvironmentCapabilities, ExpertAction, Task, Verdict
from tumbler.contracts.sandbox import SandboxSpec
from tumbler.contracts.values import ToolCall, ToolSpec
from tumbler.testing import (
    EnvironmentSuite,
    MemorySandboxBackend,
    TwoStepEnvironment,
    TwoStepSettings,
)


class Sound(TwoStepEnvironment):
    def __init__(self):
        super().__init__(TwoStepSettings())


async def unequal_tasks(self, split, *, count, seed):
    return [Task(id=f"{split}-{random.random()}", instruction="", split=split) for _ in range(count)]


async def one_split(self, split, *, count, seed):
    return [Task(id=f"{seed}-{index}", instruction="", split=split) for index in range(count)]


async def too_many_tasks(self, split, *, count, seed):
    return await TwoStepEnvironment.tasks(self, split, count=count + 1, seed=seed)


async def tuples_in_tasks(self, split, *, count, seed):
    tasks = await TwoStepEnvironment.tasks(self, split, count=count, seed=seed)
    return [replace(task, metadata={"pair": (1, 2)}) for task in tasks]


async def raises_on_unknown_tools(self, call):
    if call.name not in ("look", "say"):
        raise ValueError(call.name)
    return await TwoStepEnvironment.step(self, call)


async def trusts_arguments(self, call):
    if call.name == "say":
        call.arguments["word"].encode()
    return await TwoStepEnvironment.step(self, call)


async def silent_about_errors(self, call):
    return replace(await TwoStepEnvironment.step(self, call), errored=False)


async def noisy(self, call):
    result = await TwoStepEnvironment.step(self, call)
    return result if call.name == "look" else replace(result, observation=f"said {random.random()}")


async def always_solved(self):
    return Verdict(reward=1.0, success=True)


async def rewards_failure(self):
    verdict = await TwoStepEnvironment.verify(self)
    return replace(verdict, reward=1.0)


async def closes_once(self):
    if self.__dict__.setdefault("closed", False):
        raise RuntimeError("closed already")
    self.closed = True


class LastWord:
    word = ""


async def shared_reset(self, task, *, seed, sandbox):
    observation = await TwoStepEnvironment.reset(self, task, seed=seed, sandbox=sandbox)
    LastWord.word = self._word
    return observation


async def shared_step(self, call):
    self._word = LastWord.word
    if call.name == "no-such-tool":
        LastWord.word = "other"
    LastWord.word = str(len(LastWord.word)) + LastWord.word
    return await TwoStepEnvironment.step(self, call)


class FaultyExpert:
    def act(self, observation):
        return None


class EndlessExpert:
    def act(self, observation):
        return ExpertAction(call=ToolCall(name="look"))


async def resumes_at_the_beginning(self, task, *, seed, sandbox, state):
    await self.reset(task, seed=seed, sandbox=sandbox)


async def resumes_with_another_word(self, task, *, seed, sandbox, state):
    await TwoStepEnvironment.resume(self, task, seed=seed + 1, sandbox=sandbox, state=state)


async def says_when_asked(self):
    self._word += "!"
    return {"said": self._said}


async def tuple_state(self):
    return {"said": self._said, "pair": (1, 2)}


async def one_fingerprint(self):
    return "always"


async def random_fingerprint(self):
    return str(random.random())


ENVIRONMENTS = {
    "capabilities": ({"capabilities": None}, "test_it_says_what_it_needs"),
    "unequal": ({"tasks": unequal_tasks}, "test_equal_seeds_give_equal_tasks"),
    "one split": ({"tasks": one_split}, "test_splits_are_disjoint_for_every_pair_of_seeds"),
    "too many": ({"tasks": too_many_tasks}, "test_there_are_tasks_and_never_more_than_asked_for"),
    "tuples": ({"tasks": tuples_in_tasks}, "test_tasks_are_plain_json"),
    "tools": (
        {"tools": lambda self: [ToolSpec(name="look", description="Look."), ToolSpec(name="look", description="2")]},
        "test_tools_are_described",
    ),
    "sandbox": ({"sandbox_spec": lambda self, task: SandboxSpec()}, "test_a_sandbox_is_asked_for_as_declared"),
    "raises": ({"step": raises_on_unknown_tools}, "test_a_call_of_an_unknown_tool_is_answered"),
    "trusts": ({"step": trusts_arguments}, "test_malformed_arguments_are_answered"),
    "not errored": ({"step": silent_about_errors}, "test_a_call_of_an_unknown_tool_is_answered"),
    "noisy": ({"step": noisy}, "test_a_replayable_environment_replays"),
    "solved": ({"verify": always_solved}, "test_an_episode_that_does_nothing_solves_nothing"),
    "rewards": ({"verify": rewards_failure}, "test_a_verdict_is_consistent"),
    "closes once": ({"close": closes_once}, "test_closing_is_safe_at_any_time"),
    "shared": ({"reset": shared_reset, "step": shared_step}, "test_two_episodes_do_not_see_each_other"),
    "lazy expert": ({"expert": lambda self, task, *, seed: FaultyExpert()}, "test_the_expert_solves_its_tasks"),
    "resumes early": (
        {"resume": resumes_at_the_beginning},
        "test_a_resumed_episode_goes_on_as_the_first_one_does",
    ),
    "resumes elsewhere": (
        {"resume": resumes_with_another_word, "fingerprint": one_fingerprint},
        "test_a_resumed_episode_goes_on_as_the_first_one_does",
    ),
    "state leaves a trace": ({"state": says_when_asked}, "test_a_state_is_read_without_a_trace"),
    "tuple state": ({"state": tuple_state}, "test_a_state_is_read_without_a_trace"),
    "one fingerprint": (
        {"fingerprint": one_fingerprint},
        "test_equal_episodes_have_equal_fingerprints_and_others_not",
    ),
    "random fingerprint": (
        {"fingerprint": random_fingerprint},
        "test_equal_episodes_have_equal_fingerprints_and_others_not",
    ),
    "endless expert": ({"expert": lambda self, task, *, seed: EndlessExpert()}, "test_the_expert_solves_its_tasks"),
}


def test_the_environment_suite_passes_a_sound_environment(caught):
    assert caught(EnvironmentSuite, make_environment=Sound, sandboxes=MemorySandboxBackend()) == set()


@pytest.mark.parametrize("fault", ENVIRONMENTS)
def test_the_environment_suite_catches(caught, broken, fault):
    methods, expected = ENVIRONMENTS[fault]
    mutant = broken(Sound, methods)
    assert expected in caught(EnvironmentSuite, make_environment=mutant, sandboxes=MemorySandboxBackend())


def test_an_environment_that_needs_a_sandbox_gets_one(caught):
    class Boxed(Sound):
        capabilities = EnvironmentCapabilities(needs_sandbox=True)

        def sandbox_spec(self, task):
            return SandboxSpec()

        async def reset(self, task, *, seed, sandbox):
            assert sandbox is not None
            await sandbox.write("word", b"here")
            return await super().reset(task, seed=seed, sandbox=None)

    boxes = MemorySandboxBackend()
    assert caught(EnvironmentSuite, make_environment=Boxed, sandboxes=boxes) == set()
    assert boxes.sandboxes and all(each.deleted for each in boxes.sandboxes)
