"""One agent at work: its conversation, its tools and what it may still use up; knows no loop."""

from collections.abc import Callable
from dataclasses import dataclass, field

from tumbler.contracts.agent import EndReason
from tumbler.contracts.chat import ChatCall, ChatMessage, ChatReply, Dialect
from tumbler.contracts.context import ContextPipeline
from tumbler.contracts.conversation import Emit
from tumbler.contracts.values import Message
from tumbler_agents.iflow.allowance import Allowance
from tumbler_agents.iflow.approval import Approvals
from tumbler_agents.iflow.hooks import Hooks
from tumbler_agents.iflow.loops import LoopGuard
from tumbler_agents.iflow.memory import Memory
from tumbler_agents.iflow.planning import PlanMode
from tumbler_agents.iflow.recording import CallRecord
from tumbler_agents.iflow.reminders import Reminders
from tumbler_agents.iflow.settings import IflowSettings
from tumbler_agents.iflow.speaking import Speaker
from tumbler_agents.iflow.todo import TodoList
from tumbler_agents.iflow.toolbox import Toolbox
from tumbler_agents.tools.tool import ToolOutput
from tumbler_agents.tools.workplace import Workplace

__all__ = ["INTERRUPTED", "MAIN", "AgentThread", "Answers", "Ending", "Shared"]

MAIN = "main"
"""The id of the agent that is nobody's sub-agent."""
INTERRUPTED = "interrupted: the call was not carried out, or not to its end"
"""The answer to a call that nothing else answers, so that the log stays legal."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How an agent stopped."""

    reason: EndReason
    text: str = ""
    """What it said last."""
    malformed: int = 0
    """Replies with calls that could not be carried out."""


@dataclass(frozen=True, kw_only=True)
class Shared:
    """What all agents of a conversation share."""

    settings: IflowSettings
    dialect: Dialect
    speaker: Speaker
    record: CallRecord
    hooks: Hooks
    approvals: Approvals
    plan: PlanMode
    emit: Emit
    malformed_limit: int
    new_context: Callable[[str], ContextPipeline]
    """Returns an empty log for the sub-agent of that id."""


@dataclass(kw_only=True)
class AgentThread:
    """One agent's conversation, and what belongs to it."""

    id: str
    shared: Shared
    context: ContextPipeline
    toolbox: Toolbox
    allowance: Allowance
    guard: LoopGuard
    reminders: Reminders
    todo: TodoList | None = None
    memory: Memory | None = None
    place: Workplace | None = None
    """The sandbox as this agent knows it; None where there is none."""
    turn: int = 0
    """Replies so far."""
    malformed: int = 0
    compacted: bool = False
    """Whether the conversation was compacted since the last reply."""

    @property
    def is_main(self) -> bool:
        """Tell whether this is no sub-agent."""
        return self.id == MAIN

    def tell(self, text: str, *, pinned: bool = False) -> None:
        """Add what the agent is told to its log."""
        self.context.append(Message(role="user", content=text), pinned=pinned)

    def ending(self, reason: EndReason, text: str = "") -> Ending:
        """Return an ending with the counts."""
        return Ending(reason=reason, text=text, malformed=self.malformed)

    def answering(self, reply: ChatReply) -> "Answers":
        """Return the sheet on which the reply's calls are answered."""
        return Answers(thread=self, calls=reply.message.calls)


@dataclass(kw_only=True)
class Answers:
    """The answers to one reply's calls. Leaving the context logs one for each, in order, whatever happened inside."""

    thread: AgentThread
    calls: tuple[ChatCall, ...]
    outputs: dict[str, ToolOutput] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """Texts that go along with the last answer."""

    def give(self, call: ChatCall, output: ToolOutput) -> None:
        """Answer a call."""
        self.outputs[call.id] = output

    def texts(self) -> list[str]:
        """Return the answers in order."""
        return [self.outputs[call.id].text if call.id in self.outputs else INTERRUPTED for call in self.calls]

    def __enter__(self) -> "Answers":
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Log the answers."""
        for number, (call, text) in enumerate(zip(self.calls, self.texts(), strict=True), 1):
            content = "\n\n".join([text, *self.notes]) if number == len(self.calls) else text
            message = ChatMessage(role="tool", content=content, call_id=call.id, name=call.name)
            self.thread.context.append(self.thread.shared.dialect.write(message), answers=call.id, tool=call.name)
