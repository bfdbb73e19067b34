"""What a compaction must not lose: task, rules, todo, files; and what is none."""

from dataclasses import dataclass

from tests.agents.iflow.scripted import (
    HERMES,
    Scripted,
    ScriptedChat,
    call,
    calls,
    episode,
    events_of,
    host_of,
    pipeline,
    require_legal,
)

from tumbler.contracts.agent import Limits, Reply
from tumbler.contracts.context import Plan, StrategyCaps, Summarise
from tumbler.contracts.conversation import Compacted
from tumbler.rollout.context import NamedStrategy
from tumbler_agents.iflow.conversation import opened
from tumbler_agents.iflow.memory import MemorySettings
from tumbler_agents.iflow.settings import IflowSettings
from tumbler_agents.iflow.speaking import RecordedSpeaker

SETTINGS = IflowSettings(system_prompt="Be brief.", memory=MemorySettings(texts={"rules": "Never touch /etc."}))


@dataclass(frozen=True)
class SumUp:
    """Shows one line in place of all exchanges that are over, on request or on overflow."""

    caps = StrategyCaps(rewrites="batched")

    def start(self, task, rng):
        return {}

    async def plan(self, view, budget, state, why):
        if why not in ("user_request", "overflow"):
            return Plan()
        gone = [entry for each in view.exchanges()[:-1] if not each.open for entry in each.entries if not entry.pinned]
        if not gone:
            return Plan()
        return Plan(edits=(Summarise(ids=tuple(entry.id for entry in gone), text="(summed up)"),))


async def test_task_rules_todo_and_files_outlive_a_compaction(box):
    await box.write("plan.txt", b"the plan of the work\n")
    chat = ScriptedChat(
        calls(("todo_write", {"todos": [{"content": "mend the roof"}]}), ("read", {"path": "plan.txt"})),
        call("shell", command="seq 1 1500"),
        "so far",
        "done",
    )
    context = pipeline(SumUp(), context=40_000)
    async with opened(SETTINGS, host_of(chat, sandbox=box, context=context)) as conversation:
        await events_of(conversation, "The task is to repair the house.")
        events = await events_of(conversation, "/compact")
        await events_of(conversation, "Go on.")
    compacted = [event for event in events if isinstance(event, Compacted)]
    assert compacted and compacted[0].tokens_after < compacted[0].tokens_before
    seen = "\n".join(message.content for message in chat.asked[-1])
    assert "(summed up)" in seen and "1500" not in seen
    for kept in ("repair the house", "Never touch /etc.", "mend the roof", "the plan of the work", "Go on."):
        assert kept in seen, f"lost: {kept}"
    require_legal(chat.asked[-1])


async def test_without_a_compaction_nothing_is_shown_twice(box):
    await box.write("plan.txt", b"the plan of the work\n")
    chat = ScriptedChat(call("read", path="plan.txt"), call("list"), "done")
    async with opened(SETTINGS, host_of(chat, sandbox=box, context=pipeline(SumUp(), context=40_000))) as conversation:
        events = await events_of(conversation, "Look.")
    assert not any(isinstance(event, Compacted) for event in events)
    assert "\n".join(message.content for message in chat.asked[-1]).count("the plan of the work") == 1


async def test_what_is_shown_again_takes_at_most_half_of_what_was_freed(box):
    await box.write("long.txt", b"word " * 600)
    chat = ScriptedChat(call("read", path="long.txt"), "so far", "done")
    context = pipeline(SumUp(), context=40_000)
    async with opened(SETTINGS, host_of(chat, sandbox=box, context=context)) as conversation:
        await events_of(conversation, "Read it.")
        before = sum(entry.tokens for entry in context.entries)
        await events_of(conversation, "/compact")
        await events_of(conversation, "Go on.")
    assert sum(entry.tokens for entry in context.entries) < before


async def test_an_episode_whose_context_overflows_is_compacted_and_goes_on(backend):
    policy = Scripted(
        *[call("shell", command=f"seq {index}000 {index}150") for index in range(1, 8)],
        call("write", path="answer", content="42"),
        "done",
    )
    settings = IflowSettings(
        system_prompt="Be brief.", include=("shell", "write", "todo_write"), compaction={"files": 1}
    )
    trajectory = await episode(
        settings,
        policy,
        backend,
        strategies=[NamedStrategy(name="sum-up", strategy=SumUp())],
        context=7000,
        limits=Limits(turns=20, seconds=60),
    )
    assert trajectory.success, trajectory.status_reason
    assert "rewrite" in {segment.cause for segment in trajectory.segments}


async def test_a_hook_may_forbid_the_compaction_that_a_person_asks_for():
    async def no(told):
        return {"decision": "block", "reason": "not now"}

    context = pipeline(SumUp(), context=40_000)
    chat = ScriptedChat("one", "two")
    async with opened(SETTINGS, host_of(chat, context=context, hooks=[("before_compact", no)])) as conversation:
        await events_of(conversation, "Hello.")
        events = await events_of(conversation, "/compact")
        assert events[0].event == "before_compact" and events[1].text == "Not compacted: not now"
        await events_of(conversation, "Again.")
    assert "one" in [message.content for message in chat.asked[1]]


async def test_the_memory_of_a_folder_is_told_again_after_a_compaction(box):
    await box.write("src/AGENTS.md", b"Numbers in digits.\n")
    await box.write("src/a", b"one\n")
    chat = ScriptedChat(
        call("read", path="src/a"),
        call("shell", command="seq 1 1500"),
        "so far",
        call("read", path="src/a"),
        "done",
    )
    context = pipeline(SumUp(), context=40_000)
    async with opened(SETTINGS, host_of(chat, sandbox=box, context=context)) as conversation:
        await events_of(conversation, "Read.")
        await events_of(conversation, "/compact")
        await events_of(conversation, "Go on.")
    told = ["Numbers in digits." in "\n".join(each.content for each in messages) for messages in chat.asked]
    assert told == [False, True, True, False, True]


async def test_what_the_agent_begins_with_stays_for_good_and_attachments_do_not(box):
    await box.write("a.txt", b"long and soon out of date\n")
    context = pipeline(context=40_000)
    async with opened(SETTINGS, host_of(ScriptedChat("done"), sandbox=box, context=context)) as conversation:
        await events_of(conversation, "See @a.txt")
        await events_of(conversation, "And?")
    assert [entry.pinned for entry in context.entries] == [True, True, False, False, False, False]


async def test_a_recorded_policy_is_told_that_its_conversation_was_rewritten():
    causes = []

    class Model:
        async def generate(self, messages, *, cause=None, **settings):
            causes.append(cause)
            return Reply(text="so far " * 100, finish_reason="stop", chunk=len(causes) - 1)

    context = pipeline(SumUp(), context=40_000)
    host = host_of(ScriptedChat("never"), context=context, speaker=RecordedSpeaker(Model(), HERMES))
    async with opened(SETTINGS, host) as conversation:
        for text in ("one " * 100, "two " * 100, "/compact", "three"):
            await events_of(conversation, text)
    assert causes == [None, None, "rewrite"]
