"""A local model in a conversation: the same recorder as in episodes, and a trajectory of what was said."""

import pytest

from tumbler.cli.agents.local import LocalMind
from tumbler.cli.agents.minds import Beginning
from tumbler.contracts.agent import EpisodeModel, EpisodeTools, NotingTools
from tumbler.contracts.environment import StepResult
from tumbler.contracts.inference import Sampling
from tumbler.contracts.values import Message, ToolCall
from tumbler.errors import ContextOverflowError
from tumbler.formats.conversations import to_chatml, to_conversations
from tumbler.formats.files import read_trajectories
from tumbler.testing.fakes import CharacterTokenizer, ScriptedInference
from tumbler.trajectory import Component, verify_trajectory

AGENT = Component(id="iflow", version="1", settings_hash="a")


def mind(inference=None, window=2000):
    inference = inference or ScriptedInference(lambda prompt: "fine", CharacterTokenizer(window))
    return LocalMind(
        inference=inference, name="m", sampling=Sampling(max_tokens=50, temperature=0.5), agent=AGENT, context=(AGENT,)
    )


def begin(mind, *, resumed=False, name="1-conversation"):
    return mind.begin(Beginning(name=name, strategies=(), sandbox=None, resumed=resumed))


async def say(thought, text):
    thought.context.append(Message(role="user", content=text))
    reply = await thought.model.generate(await thought.context.messages())
    thought.context.append(Message(role="assistant", content=reply.text), sampled=True, calls=())
    return reply


async def test_it_keeps_the_contracts_and_counts_with_the_models_own_tokenizer():
    thought = begin(mind())
    assert isinstance(thought.model, EpisodeModel)
    assert isinstance(thought.tools, EpisodeTools) and isinstance(thought.tools, NotingTools)
    reply = await say(thought, "hello")
    assert reply.prompt_tokens == len("user\nhello\x03assistant\n")
    assert mind(window=777).window == 777


async def test_what_was_said_is_a_trajectory_that_exports(tmp_path):
    thought = begin(mind())
    reply = await say(thought, "hello")
    thought.tools.note(ToolCall(name="shell", arguments={}), StepResult(observation="done"), chunk=reply.chunk)
    await say(thought, "and now")
    thought.keep(tmp_path)
    thought.keep(tmp_path)
    (trajectory,) = read_trajectories(tmp_path)
    verify_trajectory(trajectory)
    assert (trajectory.id, trajectory.header.agent, trajectory.header.temperature) == ("1-conversation", AGENT, 0.5)
    assert len(trajectory.segments) == 1, "the second prompt did not go on from the first"
    assert [call.name for call in trajectory.chunks[0].tool_calls] == ["shell"]
    (conversation,) = to_conversations(trajectory)
    said = [message["content"] for message in to_chatml(conversation)["messages"]]
    assert said == ["hello", "fine", "done", "fine"]


async def test_a_conversation_that_goes_on_is_recorded_beside_the_first_part(tmp_path):
    for name, resumed in (("1-conversation", False), ("2-conversation", True)):
        thought = begin(mind(), resumed=resumed, name=name)
        await say(thought, "hello")
        thought.keep(tmp_path)
    assert ["instruction" in each.details for each in read_trajectories(tmp_path)] == [True, False]


async def test_a_conversation_in_which_nothing_was_said_leaves_nothing(tmp_path):
    begin(mind()).keep(tmp_path)
    assert list(tmp_path.iterdir()) == []


async def test_a_prompt_without_room_for_a_reply_is_refused():
    thought = begin(mind(window=100))
    with pytest.raises(ContextOverflowError):
        await say(thought, "x" * 60)
