"""Sub-agents have context strategies of their own, and hooks are asked before every compaction."""

from dataclasses import dataclass

import pytest
from tests.agents.iflow.scripted import (
    Scripted,
    ScriptedChat,
    call,
    calls,
    episode,
    events_of,
    host_of,
    pipeline,
    text_of,
)
from tests.agents.iflow.test_compaction import SETTINGS, SumUp

from tumbler.contracts.agent import Limits
from tumbler.contracts.context import Plan, Replace, StrategyAnswer, StrategyCaps
from tumbler.contracts.conversation import Compacted
from tumbler.contracts.values import ToolSpec
from tumbler.rollout.context import NamedStrategy
from tumbler_agents.iflow.conversation import opened
from tumbler_agents.iflow.definitions import SubAgent, SubAgentSettings
from tumbler_agents.iflow.settings import IflowSettings

SCOUT = SubAgent(name="scout", description="Looks.", prompt="You are a scout.", include=("shell", "note"), turns=30)
CREW = IflowSettings(
    system_prompt="Be brief.",
    include=("shell", "write", "task", "note"),
    sub_agents=SubAgentSettings(agents=(SCOUT,), general=False),
    compaction={"files": 0},
)


def is_scout(prompt):
    return "You are a scout." in prompt


@pytest.mark.parametrize("scouts", [1, 2])
async def test_a_sub_agent_with_long_outputs_is_compacted_and_every_token_is_recorded_once(backend, scouts):
    looked = dict.fromkeys("AB", 0)

    def policy(prompt):
        if is_scout(prompt):
            name = "A" if "Look at A." in prompt else "B"
            looked[name] += 1
            return (
                f"FOUND {name}"
                if looked[name] > 8
                else text_of(call("shell", command=f"seq {looked[name]}000 {looked[name]}150"))
            )
        if "FOUND" in prompt:
            return "done"
        return text_of(calls(*[("task", {"agent": "scout", "prompt": f"Look at {name}."}) for name in "AB"[:scouts]]))

    trajectory = await episode(
        CREW,
        policy,
        backend,
        strategies=[NamedStrategy(name="sum-up", strategy=SumUp())],
        context=7000,
        limits=Limits(turns=40, seconds=60),
    )
    assert (trajectory.status, trajectory.status_reason) == ("completed", "finished")
    for number in range(1, scouts + 1):
        own = [segment for segment in trajectory.segments if segment.agent_id == f"main/scout-{number}"]
        assert own[0].cause == "sub-agent"
        assert {segment.cause for segment in own[1:]} == {"rewrite"}
        texts = ["".join(map(chr, segment.token_ids)) for segment in own]
        assert all("(summed up)" in text for text in texts[1:])
    assert {segment.cause for segment in trajectory.segments if segment.agent_id == "main"} == {"start"}
    assert all(chunk.trainable for chunk in trajectory.chunks)
    places = {(chunk.segment, place) for chunk in trajectory.chunks for place in range(chunk.start, chunk.end)}
    assert len(trajectory.chunks) == 2 + 9 * scouts
    assert len(places) == trajectory.sampled_tokens == sum(len(chunk.text) + 1 for chunk in trajectory.chunks)


@dataclass(frozen=True)
class Noting:
    """Answers `note` with how many notes there are."""

    caps = StrategyCaps()

    def start(self, task, rng):
        return {"notes": 0}

    async def plan(self, view, budget, state, why):
        return Plan()

    def tools(self):
        return [ToolSpec(name="note", description="Takes a note.")]

    async def call(self, call, view, state):
        state["notes"] += 1
        return StrategyAnswer(text=f"{state['notes']} notes", errored=state["notes"] > 1)


async def test_a_sub_agents_calls_of_strategies_tools_are_its_own_strategies_to_answer(backend):
    def policy(prompt):
        if is_scout(prompt):
            return "FOUND it" if "notes" in prompt else text_of(call("note"))
        if "FOUND" in prompt:
            return "done"
        return text_of(call("task", agent="scout", prompt="Look.") if "notes" in prompt else call("note"))

    trajectory = await episode(CREW, policy, backend, strategies=[NamedStrategy(name="noting", strategy=Noting())])
    noted = [
        (chunk.observation, chunk.errored)
        for chunk in trajectory.chunks
        if chunk.tool_calls[:1] and chunk.tool_calls[0].name == "note"
    ]
    assert noted == [("1 notes", False), ("1 notes", False)]


async def test_hooks_are_asked_before_a_compaction_that_nobody_asked_for_and_their_words_are_in_the_prompt(box):
    told = []

    async def before(event):
        told.append(event)
        return {"context": "Mind the gap."}

    chat = ScriptedChat(*[call("shell", command=f"seq {n}000 {n}150") for n in range(1, 8)], "done")
    context = pipeline(SumUp(), context=4000)
    host = host_of(chat, sandbox=box, context=context, hooks=[("before_compact", before)])
    async with opened(SETTINGS, host) as conversation:
        events = await events_of(conversation, "Count.")
    compacted = [event for event in events if isinstance(event, Compacted)]
    assert len(told) == len(compacted) > 0
    assert {event["why"] for event in told} == {"overflow"}
    assert all(event["tokens_after"] < event["tokens_before"] for event in told)
    kinds = [getattr(event, "event", type(event).__name__) for event in events]
    assert kinds[kinds.index("before_compact") + 1] == "Compacted"
    seen = ["\n".join(message.content for message in messages) for messages in chat.asked]
    first = next(index for index, text in enumerate(seen) if "(summed up)" in text)
    assert "Mind the gap." in seen[first]
    assert "Mind the gap." not in seen[first - 1]


async def test_hooks_may_forbid_a_compaction_and_then_the_conversation_overflows(box):
    async def no(event):
        return {"decision": "block", "reason": "not now"}

    chat = ScriptedChat(*[call("shell", command=f"seq {n}000 {n}150") for n in range(1, 8)], "done")
    context = pipeline(SumUp(), context=4000)
    host = host_of(chat, sandbox=box, context=context, hooks=[("before_compact", no)])
    async with opened(SETTINGS, host) as conversation:
        events = await events_of(conversation, "Count.")
        records = [record.outcome for record in conversation.hook_records]
    assert events[-1].reason == "context_overflow"
    assert not any(isinstance(event, Compacted) for event in events)
    assert records == ["blocked"], "the same prompt was asked about twice"
    assert {(each.check, each.reason) for each in context.refusals} == {("scaffold", "not now")}


async def test_a_compaction_takes_one_look_at_the_log(box):
    asked = []

    class Looked(SumUp):
        async def plan(self, view, budget, state, why):
            asked.append(why)
            return await super().plan(view, budget, state, why)

    chat = ScriptedChat(*[call("shell", command=f"seq {n}000 {n}150") for n in range(1, 8)], "done")
    async with opened(SETTINGS, host_of(chat, sandbox=box, context=pipeline(Looked(), context=4000))) as conversation:
        events = await events_of(conversation, "Count.")
    assert any(isinstance(event, Compacted) for event in events)
    # A deterministic strategy is asked twice for each prompt.
    assert len(asked) == 2 * len(chat.asked)


@dataclass(frozen=True)
class Masking:
    """Shortens every output that was shown before the newest one, however little that frees."""

    caps = StrategyCaps(rewrites="every_turn")

    def start(self, task, rng):
        return {}

    async def plan(self, view, budget, state, why):
        old = [each for each in view.entries[:-1] if each.answers is not None and len(each.message.content) > 100]
        return Plan(edits=[Replace(id=each.id, content="(old)", reason="old") for each in old])


async def test_placeholders_for_old_results_are_no_compaction_to_ask_about(box):
    told = []

    async def before(event):
        told.append(event)

    chat = ScriptedChat(*[call("shell", command="seq 1 100") for _ in range(4)], "done")
    host = host_of(chat, sandbox=box, context=pipeline(Masking(), context=9000), hooks=[("before_compact", before)])
    async with opened(SETTINGS, host) as conversation:
        await events_of(conversation, "Count.")
    assert any("(old)" in message.content for message in chat.asked[-1])
    assert told == []


async def test_what_a_tool_answered_is_known_by_its_name(box):
    chat = ScriptedChat(calls(("shell", {"command": "true"}), ("todo_write", {"todos": []})), "done")
    context = pipeline()
    async with opened(SETTINGS, host_of(chat, sandbox=box, context=context)) as conversation:
        await events_of(conversation, "Go.")
    assert [entry.tool for entry in context.entries if entry.answers] == ["shell", "todo_write"]


async def test_the_policy_of_an_episode_is_told_again_what_a_compaction_took(backend):
    policy = Scripted(
        call("shell", command="echo the plan > plan.txt"),
        *[call("shell", command=f"seq {n}000 {n}150") for n in range(1, 8)],
        call("write", path="answer", content="42"),
        "done",
    )
    hook = {"event": "before_compact", "command": """echo '{"context": "Mind the gap."}'"""}
    settings = CREW.model_copy(update={"hooks": (IflowSettings(hooks=(hook,)).hooks[0],)})
    strategies = [NamedStrategy(name="sum-up", strategy=SumUp())]
    trajectory = await episode(settings, policy, backend, strategies=strategies, context=7000)
    assert trajectory.success, trajectory.status_reason
    assert [each["event"] for each in trajectory.details["hooks"]] == ["before_compact"] * len(
        trajectory.details["hooks"]
    )
    assert any("Mind the gap." in prompt for prompt in policy.prompts)
