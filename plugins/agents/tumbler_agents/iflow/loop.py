"""The main loop: the agent speaks, its calls are carried out, and again; knows neither training nor terminal."""

from tumbler.contracts.chat import ChatReply
from tumbler.errors import ContextOverflowError
from tumbler_agents.iflow.acting import act
from tumbler_agents.iflow.asking import Blocked, ask
from tumbler_agents.iflow.thread import AgentThread, Ending

__all__ = ["drive"]

_CUT_OFF = "error: the reply was cut off at its limit of tokens; say less at once"


async def drive(thread: AgentThread) -> Ending:
    """Let the agent speak and act until it is done, the environment ends it, or a limit strikes."""
    while (struck := thread.allowance.strike()) is None:
        try:
            reply = await ask(thread)
        except ContextOverflowError:
            return thread.ending("context_overflow")
        except Blocked as blocked:
            return thread.ending("blocked", str(blocked))
        if not reply.message.calls:
            objection = await _objection(thread, reply)
            if objection is None:
                return thread.ending("finished", reply.message.content)
            thread.shared.record.reject(objection, chunk=reply.chunk)
            thread.tell(objection)
        else:
            with thread.answering(reply) as answers:
                await act(thread, reply, answers)
        if thread.shared.record.ended is not None:
            return thread.ending(thread.shared.record.ended)
        if thread.malformed >= thread.shared.malformed_limit:
            return thread.ending("malformed")
        if thread.guard.stops:
            return thread.ending("loop")
    return thread.ending(struck)


async def _objection(thread: AgentThread, reply: ChatReply) -> str | None:
    """Return why a reply without calls does not end the work; None where it does."""
    if reply.stop in ("length", "abort"):
        thread.malformed += 1
        return _CUT_OFF
    hooks = thread.shared.hooks
    told = {"text": reply.message.content, "calls": []}
    verdict = await hooks.run("after_model", told, agent_id=thread.id)
    if verdict.blocked is None and thread.is_main:
        verdict = await hooks.run("stop", {"text": reply.message.content}, agent_id=thread.id)
    return verdict.blocked
