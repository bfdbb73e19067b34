"""A conversation as whoever hosts it wants it: who speaks, who approves, and how it is taken up again."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

from tumbler.contracts.agent import EpisodeModel
from tumbler.contracts.chat import Dialect
from tumbler.contracts.conversation import ConversationHost
from tumbler.contracts.values import JSONObject
from tumbler.dialects import dialect
from tumbler.errors import RegistryError
from tumbler_agents.iflow.approval import Approval, Approver
from tumbler_agents.iflow.assembly import Host
from tumbler_agents.iflow.checkpoints import load
from tumbler_agents.iflow.conversation import Conversation, opened
from tumbler_agents.iflow.planning import PLAN_TOOL
from tumbler_agents.iflow.served import ServedSpeaker
from tumbler_agents.iflow.settings import IflowSettings
from tumbler_agents.iflow.speaking import RecordedSpeaker, Speaker

__all__ = ["conversing"]


@asynccontextmanager
async def conversing(
    settings: IflowSettings, given: ConversationHost, saved: Path | None = None
) -> AsyncGenerator[Conversation]:
    """Yield a conversation over what the host gives; see `tumbler.contracts.conversation.ConversingAgent`."""
    _require_named_place(settings)
    before = None if saved is None else load(saved)
    chosen = dialect(settings.dialect)
    host = Host(
        speaker=_speaker(given, chosen),
        dialect=chosen,
        context=given.context,
        limits=given.limits,
        sandbox=given.sandbox,
        tools=given.tools,
        approver=_approver(given),
    )
    async with opened(_adapted(settings, given), host, before) as conversation:
        yield conversation


def _require_named_place(settings: IflowSettings) -> None:
    """Refuse workflows of whatever folder the person is in: they start programs, and that folder may be anybody's."""
    folder = settings.workflows
    if settings.workflow is not None and folder is not None and not folder.expanduser().is_absolute():
        raise RegistryError(
            f"workflows = {str(folder)!r} would be looked for in the folder that Tumbler was started in, and a "
            "workflow may start programs; with a person, name an absolute path, or one that begins with ~"
        )


def _speaker(given: ConversationHost, chosen: Dialect) -> Speaker:
    if isinstance(given.model, EpisodeModel):
        return RecordedSpeaker(given.model, chosen)
    return ServedSpeaker(given.model, chosen)


def _adapted(settings: IflowSettings, given: ConversationHost) -> IflowSettings:
    """Return the settings with what a person's presence changes: nothing that the model is told."""
    approval = settings.approval
    if given.asking != "yes" and approval.otherwise == "allow":
        approval = approval.model_copy(update={"otherwise": "ask"})
    return settings.model_copy(update={"approval": approval, "plan": settings.plan or given.planning})


def _approver(given: ConversationHost) -> Approver | None:
    """Return who answers; None for the person."""
    answers: dict[str, Approver] = {"yes": _Yes(), "nobody": _Nobody()}
    return answers.get(given.asking)


class _Yes:
    async def approve(self, agent_id: str, name: str, arguments: JSONObject) -> Approval:
        return Approval(allowed=True)


class _Nobody:
    async def approve(self, agent_id: str, name: str, arguments: JSONObject) -> Approval:
        if name == PLAN_TOOL:
            return Approval(allowed=False, reason="nobody can approve it now; give the plan as your answer and stop")
        return Approval(allowed=False, reason="there is nobody to ask; find another way, or say what is to be done")
