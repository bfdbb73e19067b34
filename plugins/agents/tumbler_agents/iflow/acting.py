"""Carries out the calls of one reply: hooks, plan mode and approval before each, the record behind it."""

import asyncio
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from tumbler.contracts.chat import ChatCall, ChatReply
from tumbler.contracts.conversation import CallEnded, CallStarted
from tumbler.contracts.values import JSONObject, ToolCall
from tumbler_agents.iflow.reminders import reminder
from tumbler_agents.iflow.thread import AgentThread, Answers
from tumbler_agents.iflow.toolbox import Offer
from tumbler_agents.tools.tool import ToolOutput

__all__ = ["act"]


@dataclass(frozen=True, kw_only=True)
class _Made:
    """What came of a call."""

    call: ToolCall
    output: ToolOutput
    recorded: bool = False
    """Whether it is in the episode's record already."""
    notes: tuple[str, ...] = ()
    """What the hooks have to say beside it."""


async def act(thread: AgentThread, reply: ChatReply, answers: Answers) -> None:
    """Answer the reply's calls: those that may run side by side do so, all others in order."""
    verdict = await thread.shared.hooks.run(
        "after_model",
        {"text": reply.message.content, "calls": [{"name": c.name, "arguments": c.arguments} for c in answers.calls]},
        agent_id=thread.id,
    )
    answers.notes += [reminder(text) for text in verdict.context]
    calls: Sequence[tuple[ChatCall, Offer]] = ()
    if verdict.blocked is not None:
        for call in answers.calls:
            _refuse(thread, call, f"error: {verdict.blocked}", answers, chunk=reply.chunk)
    else:
        calls = _reject(thread, reply, answers)
        for group in _groups(calls):
            await _carry_out_all(thread, group, answers, chunk=reply.chunk)
    thread.guard.note(answers.calls, answers.texts())
    answers.notes += await _notes(thread, [call for call, _ in calls])


def _reject(thread: AgentThread, reply: ChatReply, answers: Answers) -> Sequence[tuple[ChatCall, Offer]]:
    """Answer calls that cannot be carried out, and return the others with their tools."""
    good: list[tuple[ChatCall, Offer]] = []
    problems: list[str] = []
    for call in answers.calls:
        offer = thread.toolbox.get(call.name)
        if call.problem is None and offer is not None:
            good.append((call, offer))
            continue
        problem = f"error: {call.problem}" if call.problem is not None else thread.toolbox.unknown(call.name)
        problems.append(problem)
        _answer(thread, call, ToolOutput(text=problem, errored=True), answers)
    if problems:
        thread.malformed += 1
        thread.shared.record.reject("\n".join(problems), chunk=reply.chunk)
    return good


def _groups(calls: Iterable[tuple[ChatCall, Offer]]) -> Iterator[Sequence[tuple[ChatCall, Offer]]]:
    """Yield the calls in order, those together that may run side by side."""
    for together, group in groupby(calls, key=lambda pair: pair[1].side_by_side):
        if together:
            yield list(group)
        else:
            yield from ([pair] for pair in group)


async def _carry_out_all(
    thread: AgentThread, group: Sequence[tuple[ChatCall, Offer]], answers: Answers, *, chunk: int | None
) -> None:
    if thread.shared.record.ended is not None:
        for call, _ in group:
            answers.give(call, ToolOutput(text="not carried out: the episode is over", errored=True))
        return
    made: dict[str, _Made] = {}

    async def one(call: ChatCall, offer: Offer) -> None:
        thread.shared.emit(CallStarted(agent_id=thread.id, call_id=call.id, name=call.name, arguments=call.arguments))
        made[call.id] = await _carry_out(thread, call, offer, chunk=chunk)
        _answer(thread, call, made[call.id].output, answers)

    try:
        await _together([one(call, offer) for call, offer in group])
    finally:
        # In the calls' order, so that prompts and records of equal episodes are equal.
        for each in (made[call.id] for call, _ in group if call.id in made):
            answers.notes += each.notes
            if not each.recorded:
                thread.shared.record.note(each.call, each.output, chunk=chunk)


async def _together(coroutines: Sequence[Coroutine[object, object, None]]) -> None:
    """Run all to their end; where one fails, or the caller is cancelled, end the others first."""
    if len(coroutines) == 1:
        await coroutines[0]
        return
    tasks = [asyncio.ensure_future(coroutine) for coroutine in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def _carry_out(thread: AgentThread, call: ChatCall, offer: Offer, *, chunk: int | None) -> _Made:
    """Carry one call out, unless a hook, the plan or the person is against it."""
    shared, arguments = thread.shared, call.arguments
    told: JSONObject = {"tool": call.name, "arguments": arguments}
    before = await shared.hooks.run("before_tool", told, agent_id=thread.id, name=call.name)
    notes = tuple(reminder(text) for text in before.context)
    changed = before.changes.get("arguments")
    if isinstance(changed, Mapping):
        arguments = changed
    made = ToolCall(name=call.name, arguments=arguments)
    refusal = f"error: {before.blocked}" if before.blocked is not None else shared.plan.refusal(offer)
    refusal = refusal or await shared.approvals.refusal(offer, arguments, agent_id=thread.id)
    if refusal is not None:
        return _Made(call=made, output=ToolOutput(text=refusal, errored=True), notes=notes)
    if offer.tool is None:
        output = await shared.record.step(made, chunk=chunk)
    else:
        output = await offer.tool.call(arguments)
    told = {"tool": call.name, "arguments": arguments, "text": output.text, "errored": output.errored}
    after = await shared.hooks.run("after_tool", told, agent_id=thread.id, name=call.name)
    notes += tuple(reminder(text) for text in after.context)
    text = after.changes.get("text", output.text)
    text = f"error: {after.blocked}" if after.blocked is not None else text
    shown = ToolOutput(text=str(text), errored=output.errored or after.blocked is not None, ends=output.ends)
    return _Made(call=made, output=shown, recorded=offer.tool is None, notes=notes)


def _refuse(thread: AgentThread, call: ChatCall, text: str, answers: Answers, *, chunk: int | None) -> None:
    output = ToolOutput(text=text, errored=True)
    thread.shared.record.note(ToolCall(name=call.name, arguments=call.arguments), output, chunk=chunk)
    _answer(thread, call, output, answers)


def _answer(thread: AgentThread, call: ChatCall, output: ToolOutput, answers: Answers) -> None:
    answers.give(call, output)
    thread.shared.emit(
        CallEnded(agent_id=thread.id, call_id=call.id, name=call.name, text=output.text, errored=output.errored)
    )


async def _notes(thread: AgentThread, calls: Sequence[ChatCall]) -> Sequence[str]:
    """Return the memory of folders that were entered, and what the agent is to be reminded of."""
    notes: list[str] = []
    if thread.memory is not None and thread.place is not None:
        paths = [await thread.place.shown(await thread.place.absolute(path)) for path in _paths(thread, calls)]
        found = await thread.memory.below(paths)
        notes += [reminder(found)] if found else []
    ran = [call.name for call in calls if not thread.toolbox.quiet(call.name)]
    due = await thread.reminders.due(turns_left=thread.allowance.turns_left, ran=ran)
    return [*notes, *([due] if due else [])]


def _paths(thread: AgentThread, calls: Iterable[ChatCall]) -> Iterator[str]:
    """Yield the paths that calls of the sandbox's tools name."""
    for call in calls:
        offer = thread.toolbox.get(call.name)
        if offer is None or offer.origin != "sandbox":
            continue
        path, paths = call.arguments.get("path"), call.arguments.get("paths")
        named = paths if isinstance(paths, list) else [path]
        yield from (each for each in named if isinstance(each, str) and each and "\0" not in each)
