"""The suite of agents passes a sound implementation, and catches each fault with the right test."""

import json

import pytest

from tumbler.contracts.agent import Outcome
from tumbler.contracts.values import Message, ToolCall
from tumbler.errors import ContextOverflowError
from tumbler.testing import (
    AgentSuite,
)


class Json:
    """One JSON object a turn."""

    def write_action(self, action):
        return "done" if action is None else json.dumps({"name": action.call.name, **action.call.arguments})

    async def run(self, episode):
        episode.context.append(Message(role="user", content=self.opening(episode)))
        malformed = 0
        for _turn in range(self.turns(episode)):
            try:
                reply = await episode.model.generate(await episode.context.messages())
            except ContextOverflowError:
                return Outcome(reason="context_overflow")
            episode.context.append(Message(role="assistant", content=reply.text), sampled=True)
            if reply.text == "done":
                return Outcome(reason="finished")
            call = self.parse(reply.text)
            if call is None:
                malformed += 1
                self.reject(episode, reply)
                if malformed >= episode.limits.malformed:
                    return Outcome(reason="malformed")
                continue
            result = await episode.tools.call(call, chunk=reply.chunk)
            if result.terminated:
                return Outcome(reason="terminated")
            episode.context.append(Message(role="user", content=result.observation))
        return self.limit()

    def limit(self):
        return Outcome(reason="turn_limit")

    def opening(self, episode):
        return episode.task.instruction

    def turns(self, episode):
        return episode.limits.turns

    def reject(self, episode, reply):
        episode.tools.reject(chunk=reply.chunk, reason="no")
        episode.context.append(Message(role="user", content="no"))

    def parse(self, text):
        try:
            value = json.loads(text)
            return ToolCall(name=value.pop("name"), arguments=value)
        except (ValueError, AttributeError, KeyError, TypeError):
            return None


async def raises_on_overflow(self, episode):
    await episode.model.generate([Message(role="user", content="x" * 9000)])


def remembers(self, episode):
    self.count = self.__dict__.get("count", 0) + 1
    return f"{episode.task.instruction} {self.count}"


AGENTS = {
    "garbled": (
        {"write_action": lambda self, action: "done" if action is None else "hm"},
        "test_an_expert_solves_the_task_through_it",
    ),
    "no limit": ({"turns": lambda self, episode: 50}, "test_the_turn_limit_holds"),
    "claims success": ({"limit": lambda self: Outcome(reason="finished")}, "test_the_turn_limit_holds"),
    "raises": ({"parse": lambda self, text: json.loads(text)}, "test_replies_that_are_no_call_are_survived"),
    "unrecorded": (
        {"reject": lambda self, episode, reply: episode.context.append(Message(role="user", content="no"))},
        "test_every_turn_is_recorded_as_a_call_or_as_an_error",
    ),
    "overflow": ({"run": raises_on_overflow}, "test_a_full_context_ends_the_episode_and_counts"),
    "no end": ({"write_action": lambda self, action: "hm"}, "test_an_expert_can_end_the_episode"),
    "remembers": ({"opening": remembers, "limit": None}, "test_one_instance_runs_many_episodes_at_once"),
}


def test_the_agent_suite_passes_a_sound_agent(caught):
    assert caught(AgentSuite, agent=Json()) == set()


@pytest.mark.parametrize("fault", AGENTS)
def test_the_agent_suite_catches(caught, broken, fault):
    methods, expected = AGENTS[fault]
    assert expected in caught(AgentSuite, agent=broken(Json, methods)())
