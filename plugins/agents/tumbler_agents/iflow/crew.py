"""Sub-agents as a tool: each works in a conversation of its own, and only its answer comes back."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace

from pydantic import Field

from tumbler.contracts.sandbox import Sandbox
from tumbler.contracts.values import JSONObject, ToolSpec
from tumbler.plugins.names import did_you_mean
from tumbler_agents.iflow.allowance import Allowance
from tumbler_agents.iflow.definitions import SubAgent
from tumbler_agents.iflow.loop import drive
from tumbler_agents.iflow.loops import LoopGuard
from tumbler_agents.iflow.prompts import SUB_AGENT
from tumbler_agents.iflow.reminders import Reminders
from tumbler_agents.iflow.strategy_tools import with_own
from tumbler_agents.iflow.thread import AgentThread, Ending, Shared
from tumbler_agents.iflow.toolbox import Offer, Toolbox, chosen
from tumbler_agents.tools.bounds import bounded
from tumbler_agents.tools.checked import Arguments, CheckedTool, Refusal
from tumbler_agents.tools.sandbox import SandboxTools
from tumbler_agents.tools.tool import ToolOutput
from tumbler_agents.tools.workplace import Workplace

__all__ = ["Crew", "TaskArguments", "TaskTool"]

_ENDED = {
    "turn_limit": "it reached its limit of replies",
    "time_limit": "the time is over",
    "context_overflow": "its conversation no longer fits",
    "malformed": "too many of its calls could not be read",
    "loop": "it went in circles",
    "blocked": "it was stopped",
    "terminated": "the task is over",
    "truncated": "the task was cut off",
}


class TaskArguments(Arguments):
    """Give a part of the task to a sub-agent. It sees nothing of this conversation: tell it all it needs, and what it
    shall answer. Only its answer comes back. Several tasks in one reply are worked on side by side.
    """

    prompt: str = Field(min_length=1)
    """What to do, with paths and names, and what to answer."""

    agent: str = "general"
    """Which sub-agent."""


class TaskTool:
    """The tool `task` for one agent."""

    def __init__(self, agents: Sequence[SubAgent], work: Callable[[TaskArguments], Awaitable[ToolOutput]]) -> None:
        """Describe these agents."""
        self._inner = CheckedTool("task", TaskArguments, work)
        lines = [self._inner.spec.description, "The sub-agents:", *(f"- {a.name}: {a.description}" for a in agents)]
        self._spec = replace(self._inner.spec, description="\n".join(lines))

    @property
    def spec(self) -> ToolSpec:
        """Return name, description and arguments; the description names the sub-agents."""
        return self._spec

    @property
    def reads_only(self) -> bool:
        """Return False: what sub-agents do is up to their tools."""
        return False

    async def call(self, arguments: JSONObject) -> ToolOutput:
        """Let a sub-agent work."""
        return await self._inner.call(arguments)


class Crew:
    """The sub-agents of a conversation."""

    def __init__(
        self,
        shared: Shared,
        agents: Sequence[SubAgent],
        *,
        given: Sequence[Offer],
        sandbox: Sandbox | None,
        memory: str,
        started: Mapping[str, int],
    ) -> None:
        """Take the agents, the tools of environment and servers, and what all are told of the project."""
        self._shared = shared
        self._agents = {agent.name: agent for agent in agents}
        self._given = tuple(given)
        self._sandbox = sandbox
        self._memory = memory
        self.started = dict(started)
        """How many sub-agents each agent has started: no two of a conversation have one name."""

    @property
    def agents(self) -> Sequence[SubAgent]:
        """Return the sub-agents."""
        return list(self._agents.values())

    def tool(self, parent: str, *, depth: int, allowance: Callable[[], Allowance]) -> TaskTool | None:
        """Return the tool `task` of an agent so deep below the main one; None where it may not have it."""
        if depth >= self._shared.settings.sub_agents.depth or not self._agents:
            return None

        async def work(given: TaskArguments) -> ToolOutput:
            agent = self._agents.get(given.agent)
            if agent is None:
                raise Refusal(f"there is no sub-agent {given.agent!r}. {did_you_mean(given.agent, self._agents)}")
            return await self._work(agent, given.prompt, parent, depth=depth + 1, allowance=allowance())

        return TaskTool(self.agents, work)

    async def _work(self, agent: SubAgent, prompt: str, parent: str, *, depth: int, allowance: Allowance) -> ToolOutput:
        self.started[parent] = number = self.started.get(parent, 0) + 1
        identity = f"{parent}/{agent.name}-{number}"
        hooks = self._shared.hooks
        start = await hooks.run("subagent_start", {"prompt": prompt}, agent_id=identity, name=agent.name)
        if start.blocked is not None:
            raise Refusal(start.blocked)
        prompt = "\n\n".join([str(start.changes.get("prompt", prompt)), *start.context])
        async with AsyncExitStack() as stack:
            thread = await self._thread(agent, identity, stack, depth=depth, allowance=allowance.share(agent.turns))
            system = "\n\n".join(part for part in (agent.prompt, SUB_AGENT, self._memory) if part)
            opening = self._shared.speaker.opening(system, thread.toolbox.specs)
            thread.context.append(opening, pinned=True)
            thread.tell(prompt, pinned=True)
            ending = await drive(thread)
        text, errored = self._answer(thread, ending)
        told: JSONObject = {"text": text, "reason": ending.reason}
        stop = await hooks.run("subagent_stop", told, agent_id=identity, name=agent.name)
        if stop.blocked is not None:
            raise Refusal(stop.blocked)
        text = "\n\n".join([str(stop.changes.get("text", text)), *stop.context])
        return ToolOutput(text=text, errored=errored, ends=self._shared.record.ended is not None)

    async def _thread(
        self, agent: SubAgent, identity: str, stack: AsyncExitStack, *, depth: int, allowance: Allowance
    ) -> AgentThread:
        settings = self._shared.settings
        context = self._shared.new_context(identity)
        offers = [offer for offer in self._given if agent.mcp or offer.origin != "mcp"]
        place = None
        if self._sandbox is not None:
            tools = await stack.enter_async_context(SandboxTools(self._sandbox, settings.tools))
            place = Workplace(self._sandbox, settings.tools, tools.ledger)
            offers += [Offer.of(tool, "sandbox") for tool in tools.tools]
        task = self.tool(identity, depth=depth, allowance=lambda: allowance)
        if task is not None:
            offers.append(Offer.of(task, "own", side_by_side=True, planning=True))
        offers = [
            offer
            for offer in offers
            if chosen(offer.spec.name, settings.include, settings.exclude)
            and chosen(offer.spec.name, agent.include, agent.exclude)
        ]
        guard = LoopGuard(settings.reminders.repeats, settings.stop_after_repeats)
        return AgentThread(
            id=identity,
            shared=self._shared,
            context=context,
            toolbox=Toolbox(with_own(offers, context)),
            allowance=allowance,
            guard=guard,
            reminders=Reminders(settings.reminders, guard=guard, place=place),
            place=place,
        )

    def _answer(self, thread: AgentThread, ending: Ending) -> tuple[str, bool]:
        most = self._shared.settings.sub_agents.answer_characters
        if ending.reason == "finished":
            return bounded(ending.text, most) or "(the sub-agent said nothing)", False
        why = _ENDED.get(ending.reason, ending.reason)
        said = [entry.message.content for entry in thread.context.entries if entry.sampled]
        last = f" Its last words:\n{said[-1]}" if said else ""
        return bounded(f"error: the sub-agent stopped before it was done: {why}.{last}", most), True
