"""A conversation with a person, outside of training: what it brings comes as events; shows nothing itself."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

from tumbler.contracts.agent import Limits
from tumbler.contracts.conversation import ApprovalNeeded, Done, Event, Notice, Spoken
from tumbler.contracts.sandbox_control import ControlledSandbox
from tumbler.contracts.values import JSONObject
from tumbler.errors import CapabilityError, TumblerError
from tumbler_agents.iflow.allowance import Allowance
from tumbler_agents.iflow.approval import Approval
from tumbler_agents.iflow.assembly import Assembled, Host, assembled
from tumbler_agents.iflow.checkpoints import Saved, SavedEntry, save
from tumbler_agents.iflow.commands import answer, commands
from tumbler_agents.iflow.hooks import HookRecord
from tumbler_agents.iflow.loop import drive
from tumbler_agents.iflow.opening import enter
from tumbler_agents.iflow.prompts import INTERRUPTED_TURN
from tumbler_agents.iflow.reminders import without_reminders
from tumbler_agents.iflow.settings import IflowSettings

__all__ = ["Conversation", "opened"]

_SAID: Final = 2000
"""Characters of an error that the person is shown."""


@asynccontextmanager
async def opened(settings: IflowSettings, host: Host, saved: Saved | None = None) -> AsyncGenerator["Conversation"]:
    """Yield a conversation; a saved one goes on where it was. The person is its approver, unless the host names one."""
    desk = _Desk()
    host = replace(host, emit=desk.emit, approver=host.approver or desk)
    async with assembled(settings, host, saved) as agent:
        conversation = Conversation(agent, host, desk)
        try:
            yield conversation
        finally:
            await conversation.interrupt()


class _Desk:
    """Where events are laid down, and where calls wait for the person's word."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self._waiting: dict[int, asyncio.Future[Approval]] = {}
        self._count = 0

    def emit(self, event: Event) -> None:
        """Lay an event down."""
        self.events.put_nowait(event)

    def clear(self) -> None:
        """Throw away what nobody has fetched."""
        while not self.events.empty():
            self.events.get_nowait()

    async def approve(self, agent_id: str, name: str, arguments: JSONObject) -> Approval:
        """Ask the person."""
        self._count = identity = self._count + 1
        self._waiting[identity] = asyncio.get_running_loop().create_future()
        self.emit(ApprovalNeeded(id=identity, agent_id=agent_id, name=name, arguments=arguments))
        try:
            return await self._waiting[identity]
        finally:
            del self._waiting[identity]

    def decide(self, identity: int, approval: Approval) -> bool:
        """Pass on the person's word; tell whether anybody still waits for it."""
        future = self._waiting.get(identity)
        if future is None or future.done():
            return False
        future.set_result(approval)
        return True


class Conversation:
    """One person's conversation with the agent: one message at a time."""

    def __init__(self, agent: Assembled, host: Host, desk: _Desk) -> None:
        """Use `opened`."""
        self._agent = agent
        self._host = host
        self._desk = desk
        self._work: asyncio.Task[Done] | None = None

    @property
    def agent(self) -> Assembled:
        """Return the agent."""
        return self._agent

    @property
    def hook_records(self) -> Sequence[HookRecord]:
        """Return what came of every hook so far."""
        return tuple(self._agent.thread.shared.hooks.records)

    @property
    def commands(self) -> Mapping[str, str]:
        """Return the commands, and what each does."""
        return commands(self._agent)

    @property
    def spoken(self) -> Sequence[Spoken]:
        """Return what was said on both sides, without calls, results and reminders, as far as it is in view."""
        dialect = self._agent.thread.shared.dialect
        spoken: list[Spoken] = []
        for entry in self._agent.thread.context.entries:
            role, content = entry.message.role, entry.message.content
            if role == "assistant":
                said = dialect.read(content, call_prefix="").content
                spoken += [Spoken(who="agent", text=said)] if said else []
            elif role == "user" and entry.answers is None and not entry.summary:
                said = without_reminders(content)
                spoken += [Spoken(who="person", text=said)] if said else []
        return spoken

    async def send(self, text: str) -> AsyncGenerator[Event]:
        """Yield what happens until the agent stops; the last event is `Done`.

        A text that begins with a slash is a command, unless none has the name. Whoever stops listening interrupts.
        Raises `RuntimeError` while another message is being worked on.
        """
        if self._work is not None and not self._work.done():
            raise RuntimeError("the agent is at work; interrupt it, or wait for its end")
        self._desk.clear()
        self._work = asyncio.create_task(self._answer(text), name="iflow")
        self._work.add_done_callback(lambda work: self._desk.emit(_ending(work)))
        try:
            while True:
                event = await self._desk.events.get()
                yield event
                if isinstance(event, Done):
                    break
        finally:
            await self.interrupt()

    async def interrupt(self) -> None:
        """Stop what is being done now. Calls that were not carried out are answered so: the log stays legal."""
        if self._work is None or self._work.done():
            return
        self._work.cancel()
        await asyncio.wait({self._work})

    def decide(self, identity: int, *, allowed: bool, reason: str = "") -> bool:
        """Answer `ApprovalNeeded`; tell whether the call still waits for it."""
        return self._desk.decide(identity, Approval(allowed=allowed, reason=reason))

    async def save(self, path: Path, *, files: bool = False) -> Saved:
        """Write what the conversation is taken up again from.

        With `files`, the sandbox's files are copied, too, where it can: `Saved.template` names the copy.
        """
        agent, template = self._agent, None
        if files and isinstance(self._host.sandbox, ControlledSandbox):
            with suppress(CapabilityError):
                template = (await self._host.sandbox.snapshot()).id
        saved = _saved(agent, template)
        save(saved, path)
        return saved

    async def _answer(self, text: str) -> Done:
        agent = self._agent
        answered = await answer(agent, text)
        if answered.notice:
            self._desk.emit(Notice(text=answered.notice))
        if answered.prompt is None:
            return Done(reason="finished")
        agent.thread.allowance = _allowance(self._host.limits)
        agent.thread.malformed = 0
        await enter(agent, answered.prompt)
        try:
            ending = await drive(agent.thread)
        except asyncio.CancelledError:
            agent.pending.append(INTERRUPTED_TURN)
            raise
        return Done(reason=ending.reason, text=ending.text)


def _saved(agent: Assembled, template: str | None) -> Saved:
    thread = agent.thread
    return Saved(
        entries=tuple(SavedEntry.of(entry) for entry in thread.context.entries),
        states=dict(thread.context.snapshot()),
        tools=tuple(spec.name for spec in thread.toolbox.specs),
        turn=thread.turn,
        todo=tuple(agent.todo.items),
        turns_since_todo=agent.todo.turns_since,
        planning=thread.shared.plan.active,
        plan=thread.shared.plan.plan,
        facts=tuple(agent.memory.saved),
        memory=agent.memory_text,
        shown_memory=tuple(agent.memory.shown),
        ledger=dict(agent.ledger.state()),
        told_of=tuple(thread.reminders.told_of),
        pending=tuple(agent.pending),
        agents=tuple(agent.agents),
        started=dict(agent.crew.started),
        template=template,
    )


def _allowance(limits: Limits) -> Allowance:
    return Allowance(limits.turns, limits.seconds)


def _ending(work: "asyncio.Task[Done]") -> Done:
    if work.cancelled():
        return Done(reason="interrupted")
    error = work.exception()
    if error is not None:
        # Tumbler's own errors say all there is to say; of others the kind does, too.
        said = str(error) if isinstance(error, TumblerError) else f"{type(error).__name__}: {error}"
        return Done(reason="failed", text=said[:_SAID])
    return work.result()
