"""Puts an agent together from its settings and from what its host gives; knows neither training nor terminal."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, replace

from tumbler.contracts.agent import EpisodeTools, Limits
from tumbler.contracts.chat import Dialect
from tumbler.contracts.context import ContextPipeline
from tumbler.contracts.conversation import Emit
from tumbler.contracts.pipelines import BranchingPipeline
from tumbler.contracts.sandbox import Sandbox
from tumbler.errors import SandboxError
from tumbler_agents.iflow.allowance import Allowance
from tumbler_agents.iflow.approval import Approvals, Approver
from tumbler_agents.iflow.checkpoints import Saved, put_back
from tumbler_agents.iflow.crew import Crew
from tumbler_agents.iflow.definitions import GENERAL_AGENT, SubAgent, read_definitions
from tumbler_agents.iflow.hooks import HookEvent, HookFunction, Hooks
from tumbler_agents.iflow.loops import LoopGuard
from tumbler_agents.iflow.memory import Memory, memory_tool
from tumbler_agents.iflow.planning import PLAN_TOOL, PlanMode, plan_tool
from tumbler_agents.iflow.recording import CallRecord
from tumbler_agents.iflow.reminders import Reminders
from tumbler_agents.iflow.settings import IflowSettings
from tumbler_agents.iflow.speaking import Speaker
from tumbler_agents.iflow.texts import GivenTexts, SandboxTexts
from tumbler_agents.iflow.thread import MAIN, AgentThread, Shared
from tumbler_agents.iflow.todo import TodoList, todo_tool
from tumbler_agents.iflow.toolbox import Offer, Toolbox, chosen
from tumbler_agents.iflow.transcript import Transcript
from tumbler_agents.iflow.workflows import Workflow, load_workflow
from tumbler_agents.tools.ledger import FileLedger
from tumbler_agents.tools.sandbox import SandboxTools
from tumbler_agents.tools.tool import Tool
from tumbler_agents.tools.workplace import Workplace

__all__ = ["Assembled", "Host", "assembled"]


@dataclass(frozen=True, kw_only=True)
class Host:
    """What an agent is given by whoever runs it."""

    speaker: Speaker
    dialect: Dialect
    context: ContextPipeline
    """An empty log, with the strategies over it."""
    limits: Limits
    sandbox: Sandbox | None = None
    tools: EpisodeTools | None = None
    """The environment's tools and the record; None outside of an episode."""
    approver: Approver | None = None
    """Who is asked where the settings say so; None where nobody can be."""
    hooks: Sequence[tuple[HookEvent, HookFunction]] = ()
    """Functions that are told what happens, after the commands of the settings."""
    emit: Emit = lambda _event: None


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """An agent that is ready to be told its task."""

    thread: AgentThread
    settings: IflowSettings
    """With those of the workflow."""
    workflow: Workflow
    crew: Crew
    todo: TodoList
    memory: Memory
    memory_text: str
    ledger: FileLedger
    """The files that the agent knows."""
    greeting: Sequence[str]
    """What the hooks of the session's start have to say."""
    pending: list[str]
    """What the agent is reminded of with the person's next message."""

    @property
    def agents(self) -> Sequence[SubAgent]:
        """Return the sub-agents."""
        return self.crew.agents


@asynccontextmanager
async def assembled(settings: IflowSettings, host: Host, saved: Saved | None = None) -> AsyncGenerator[Assembled]:
    """Yield the agent; what it holds open ends with the context. A saved conversation is taken up."""
    workflow = Workflow() if settings.workflow is None else load_workflow(settings.workflow, settings.workflows)
    settings = _merged(settings, workflow)
    shared = _shared(settings, host, saved or Saved(planning=settings.plan))
    async with AsyncExitStack() as stack:
        start = await shared.hooks.run("session_start", {"resumed": saved is not None})
        try:
            agent = await _agent(settings, workflow, host, shared, saved, stack)
            yield replace(agent, greeting=tuple(start.context))
        finally:
            with suppress(SandboxError):
                await shared.hooks.run("session_end")


async def _agent(
    settings: IflowSettings,
    workflow: Workflow,
    host: Host,
    shared: Shared,
    saved: Saved | None,
    stack: AsyncExitStack,
) -> Assembled:
    before = saved or Saved()
    ledger, todo = FileLedger.restored(before.ledger), TodoList(before.todo, before.turns_since_todo)
    texts = GivenTexts() if host.sandbox is None else SandboxTexts(host.sandbox)
    memory = Memory(settings.memory, texts, before.facts, before.shown_memory)
    memory_text = await memory.opening() if saved is None else saved.memory
    given = [*_environment(host.tools), *await _mcp(settings, stack)]
    own = _own(settings, shared, todo, memory, planned=PLAN_TOOL in before.tools)
    offers = [*given, *await _sandbox(host.sandbox, settings, ledger, stack), *own]
    thread = _thread(settings, host, shared, todo, memory, ledger, before)
    agents = _definitions(settings) if saved is None else saved.agents
    crew = Crew(shared, agents, given=given, sandbox=host.sandbox, memory=memory_text, started=before.started)
    task = crew.tool(MAIN, depth=0, allowance=lambda: thread.allowance)
    offers += [] if task is None else [Offer.of(task, "own", side_by_side=True, planning=True)]
    thread.toolbox = Toolbox(_ordered(offers, settings, before.tools))
    if saved is not None:
        put_back(saved, host.context, host.dialect)
    return Assembled(
        thread=thread,
        settings=settings,
        workflow=workflow,
        crew=crew,
        todo=todo,
        memory=memory,
        memory_text=memory_text,
        ledger=ledger,
        greeting=(),
        pending=list(before.pending),
    )


def _thread(
    settings: IflowSettings,
    host: Host,
    shared: Shared,
    todo: TodoList,
    memory: Memory,
    ledger: FileLedger,
    before: Saved,
) -> AgentThread:
    """Return the main agent, without tools."""
    place = None if host.sandbox is None else Workplace(host.sandbox, settings.tools, ledger)
    guard = LoopGuard(settings.reminders.repeats, settings.stop_after_repeats)
    return AgentThread(
        id=MAIN,
        shared=shared,
        context=host.context,
        toolbox=Toolbox(()),
        allowance=Allowance(host.limits.turns, host.limits.seconds * settings.time_share),
        guard=guard,
        reminders=Reminders(
            settings.reminders,
            guard=guard,
            todo=todo if settings.todo else None,
            place=place,
            told_of=before.told_of,
        ),
        todo=todo,
        memory=memory,
        place=place,
        turn=before.turn,
    )


def _merged(settings: IflowSettings, workflow: Workflow) -> IflowSettings:
    """Return the settings with what the workflow brings; the settings' own names win."""
    memory = settings.memory.model_copy(update={"texts": {**workflow.memory, **settings.memory.texts}})
    sub_agents = settings.sub_agents.model_copy(update={"agents": (*settings.sub_agents.agents, *workflow.agents)})
    return settings.model_copy(
        update={
            "system_prompt": settings.system_prompt if settings.system_prompt is not None else workflow.system_prompt,
            "mcp": {**workflow.mcp, **settings.mcp},
            "hooks": (*settings.hooks, *workflow.hooks),
            "memory": memory,
            "sub_agents": sub_agents,
        }
    )


def _shared(settings: IflowSettings, host: Host, before: Saved) -> Shared:
    return Shared(
        settings=settings,
        dialect=host.dialect,
        speaker=host.speaker,
        record=CallRecord(host.tools),
        hooks=Hooks(settings.hooks, host.hooks, sandbox=host.sandbox, emit=host.emit),
        approvals=Approvals(settings.approval, host.approver),
        plan=PlanMode(active=before.planning, plan=before.plan, reading=settings.plan_reading),
        emit=host.emit,
        malformed_limit=host.limits.malformed,
        new_context=_branches(host.context),
    )


def _branches(context: ContextPipeline) -> Callable[[str], ContextPipeline]:
    """Return what opens the log of a sub-agent, with the same strategies over it where that can be."""
    return context.branch if isinstance(context, BranchingPipeline) else lambda _identity: Transcript()


def _definitions(settings: IflowSettings) -> Sequence[SubAgent]:
    """Return the sub-agents; of two with one name, the settings' comes before a file's and that before the general."""
    chosen_agents = settings.sub_agents
    found = [*chosen_agents.agents]
    found += read_definitions(chosen_agents.folder) if chosen_agents.folder is not None else []
    found += [GENERAL_AGENT] if chosen_agents.general else []
    by_name: dict[str, SubAgent] = {}
    for agent in found:
        by_name.setdefault(agent.name, agent)
    return list(by_name.values())


def _environment(tools: EpisodeTools | None) -> Sequence[Offer]:
    return [] if tools is None else [Offer(spec=spec, origin="environment") for spec in tools.specs]


async def _mcp(settings: IflowSettings, stack: AsyncExitStack) -> Sequence[Offer]:
    if not settings.mcp:
        return []
    from tumbler_agents.mcp.client import McpClient

    client = await stack.enter_async_context(McpClient(settings.mcp))
    return [Offer.of(tool, "mcp") for tool in client.tools]


async def _sandbox(
    sandbox: Sandbox | None, settings: IflowSettings, ledger: FileLedger, stack: AsyncExitStack
) -> Sequence[Offer]:
    if sandbox is None:
        return []
    tools = await stack.enter_async_context(SandboxTools(sandbox, settings.tools, ledger))
    return [Offer.of(tool, "sandbox") for tool in tools.tools]


def _ordered(offers: Sequence[Offer], settings: IflowSettings, before: Sequence[str]) -> Sequence[Offer]:
    """Return the offers that the settings choose, in the order that they had before."""
    places = {name: index for index, name in enumerate(before)}
    wanted = [each for each in offers if chosen(each.spec.name, settings.include, settings.exclude)]
    return sorted(wanted, key=lambda each: places.get(each.spec.name, len(places)))


def _own(settings: IflowSettings, shared: Shared, todo: TodoList, memory: Memory, *, planned: bool) -> Sequence[Offer]:
    tools: list[Tool] = []
    if settings.todo:
        tools.append(todo_tool(todo))
    if settings.memory.names:
        tools.append(memory_tool(memory))
    if shared.plan.active or planned:
        tools.append(plan_tool(shared.plan))
    return [Offer.of(tool, "own", planning=tool.spec.name != "save_memory") for tool in tools]
