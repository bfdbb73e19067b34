"""One look at an agent's log: where strategies compact it, hooks are asked before and told after; asks no model."""

from collections.abc import Sequence

from tumbler.contracts.conversation import Compacted
from tumbler.contracts.pipelines import Rewrite, RewriteAnswer, WatchedPipeline
from tumbler.contracts.values import Message
from tumbler_agents.iflow.compaction import freed, shown_again
from tumbler_agents.iflow.hooks import HookVerdict
from tumbler_agents.iflow.reminders import reminder
from tumbler_agents.iflow.thread import AgentThread

__all__ = ["look"]


async def look(thread: AgentThread, *, verdict: HookVerdict | None = None) -> Sequence[Message]:
    """Return what the model is to see; where that is compacted, what must not be lost is behind it.

    `verdict` is what the hooks have said already to a person who asked for it.
    """
    compaction = _Compaction(thread, verdict)
    if isinstance(thread.context, WatchedPipeline):
        thread.context.watch(compaction.before_rewrite)
    messages = await thread.context.messages()
    if not compaction.freed:
        return messages
    thread.compacted = True
    before, after = compaction.tokens_before, sum(entry.tokens for entry in thread.context.entries)
    thread.shared.emit(Compacted(agent_id=thread.id, tokens_before=before, tokens_after=after))
    told = {"tokens_before": before, "tokens_after": after}
    said = await thread.shared.hooks.run("after_compact", told, agent_id=thread.id)
    for text in said.context:
        thread.tell(reminder(text))
    return await thread.context.messages() if said.context else messages


class _Compaction:
    """What the rewrites of one prompt are together: a compaction once they leave out enough."""

    def __init__(self, thread: AgentThread, verdict: HookVerdict | None) -> None:
        self._thread = thread
        self._entries = thread.context.entries
        self._verdict = verdict
        self.tokens_before = sum(entry.tokens for entry in self._entries)
        self.freed = 0
        """Tokens, when it was decided; 0 while there is none."""

    async def before_rewrite(self, rewrite: Rewrite) -> RewriteAnswer:
        """Let the hooks decide on a compaction, once for each prompt."""
        saved = freed(self._entries, rewrite.after)
        if not saved or self.freed:
            return RewriteAnswer()
        if self._verdict is None:
            after = sum(entry.tokens for entry in rewrite.after)
            told = {"why": rewrite.why, "tokens_before": self.tokens_before, "tokens_after": after}
            self._verdict = await self._thread.shared.hooks.run("before_compact", told, agent_id=self._thread.id)
        if self._verdict.blocked is not None:
            return RewriteAnswer(refusal=self._verdict.blocked)
        self.freed = saved
        texts = [*(reminder(each) for each in self._verdict.context), await self._again(saved, rewrite)]
        return RewriteAnswer(again=[Message(role="user", content=text) for text in texts if text])

    async def _again(self, saved: int, rewrite: Rewrite) -> str:
        thread = self._thread
        if thread.memory is not None:
            thread.memory.forget_shown()
        return await shown_again(
            thread.shared.settings.compaction,
            tokens_freed=saved,
            entries=rewrite.after,
            plan=thread.shared.plan.plan if thread.is_main else "",
            todo=thread.todo,
            memory=thread.memory,
            place=thread.place,
        )
