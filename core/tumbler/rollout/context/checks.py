"""The rules of a plan's edits: what breaks one is an error, and what is not worth its cost is refused."""

from collections.abc import Iterable, Mapping, Sequence

from tumbler.contracts.context import (
    Append,
    Budget,
    Drop,
    Edit,
    LogEntry,
    Pin,
    Plan,
    Replace,
    Reset,
    StrategyCaps,
    Summarise,
    View,
)
from tumbler.contracts.inference import TextTokenizer
from tumbler.errors import ContextPlanError
from tumbler.rollout.rendering import render

__all__ = [
    "find_waste",
    "require_legal_edit",
    "require_legal_roles",
    "require_whole_exchanges",
    "rewrites",
    "role_problem",
]

_LEAST_PROGRESS = 0.1
_MOST_IN_A_ROW = 2


def require_legal_edit(name: str, edit: Edit, entries: Sequence[LogEntry], replies: Mapping[int, str]) -> None:
    """Raise `ContextPlanError` where an edit of strategy `name` names what it may not.

    Checks `unknown`, `pinned`, `unanswered`, `fabricated` and `roles`. `replies` holds what the model said to
    strategies: call → text.
    """
    shown = {entry.id: entry for entry in entries}
    for entry_id in _named(edit):
        if entry_id not in shown:
            raise ContextPlanError(
                f"context strategy {name!r} edits entry {entry_id}, which is not in view; edit those of the view",
                check="unknown",
            )
        if shown[entry_id].pinned and not isinstance(edit, Pin | Reset):
            raise ContextPlanError(
                f"context strategy {name!r} edits entry {entry_id}, which is pinned; leave system and task as they are",
                check="pinned",
            )
    gone = _removed(edit, entries)
    for exchange in View(entries=entries).exchanges() if gone or isinstance(edit, Append) else ():
        if exchange.open and (gone.intersection(exchange.ids) or isinstance(edit, Append)):
            raise ContextPlanError(
                f"context strategy {name!r} cuts into entries {list(exchange.ids)}, whose calls are not all answered; "
                "wait until they are",
                check="unanswered",
            )
    if isinstance(edit, Summarise):
        _require_spoken(name, edit, replies)
    if isinstance(edit, Append) and edit.message.role != "user":
        raise ContextPlanError(
            f"context strategy {name!r} appends a message in the role {edit.message.role!r}; "
            "what a strategy says is in the role 'user'",
            check="roles",
        )


def require_whole_exchanges(name: str, before: Sequence[LogEntry], after: Sequence[LogEntry]) -> None:
    """Raise `ContextPlanError` (`pairs`) where a reply or an answer to its calls is left out without the others."""
    left = {entry.id for entry in after}
    for exchange in View(entries=before).exchanges():
        kept = [entry_id for entry_id in exchange.ids if entry_id in left]
        if kept and len(kept) < len(exchange.ids):
            raise ContextPlanError(
                f"context strategy {name!r} keeps entries {kept} of the exchange {list(exchange.ids)} and leaves the "
                "others out; a reply and the answers to its calls go together (see View.exchanges)",
                check="pairs",
            )


def require_legal_roles(name: str, entries: Sequence[LogEntry], tokenizer: TextTokenizer) -> None:
    """Raise `ContextPlanError` (`roles`) where the chat template cannot show the entries in this order."""
    problem = role_problem(entries, tokenizer)
    if problem is not None:
        raise ContextPlanError(f"after the edits of context strategy {name!r} {problem}", check="roles")


def role_problem(entries: Sequence[LogEntry], tokenizer: TextTokenizer) -> str | None:
    """Return why the entries are no conversation that the chat template shows, or None."""
    messages = [entry.message for entry in entries]
    leading = next((i for i, message in enumerate(messages) if message.role != "system"), len(messages))
    if any(message.role == "system" for message in messages[leading:]):
        return "a system message stands inside the conversation"
    if leading < len(messages) and messages[leading].role in ("assistant", "tool"):
        return (
            f"the conversation begins with the role {messages[leading].role!r}; "
            "keep the task, or put a note in its place"
        )
    try:
        render(tokenizer, messages, add_generation_prompt=True)
    except Exception as error:  # noqa: BLE001  # a template is a program that raises what it likes
        return f"the chat template refuses the conversation: {error}"
    return None


def rewrites(plan: Plan, entries: Sequence[LogEntry]) -> bool:
    """Return whether a plan changes what the model has already seen."""
    shown = {entry.id for entry in entries if entry.shown}
    return any(
        edit.id in shown if isinstance(edit, Replace) else not shown.isdisjoint(_removed(edit, entries))
        for edit in plan.edits
    )


def find_waste(caps: StrategyCaps, budget: Budget, after: int, in_a_row: int) -> tuple[str, str] | None:
    """Return the check that a rewrite fails and why, or None: is it worth the cache that it costs?

    A strategy that declares to rewrite at every turn has said that it pays for it, and one that makes a prompt fit
    saves the episode; neither may let the prompt grow.
    """
    freed = budget.used - after
    if freed < 0:
        return "grows", f"the prompt would grow from {budget.used} to {after} tokens"
    if caps.rewrites == "every_turn" or budget.used > budget.limit >= after:
        return None
    if freed < _LEAST_PROGRESS * budget.used:
        return "progress", f"it frees {freed} of {budget.used} tokens, less than {_LEAST_PROGRESS:.0%}"
    if freed < budget.clear_at_least:
        return "clear_at_least", f"it frees {freed} tokens, and the run asks for {budget.clear_at_least} at least"
    if in_a_row >= _MOST_IN_A_ROW:
        return "in-a-row", f"the last {in_a_row} prompts were rewritten, too"
    return None


def _named(edit: Edit) -> Iterable[int]:
    match edit:
        case Drop(ids=ids) | Summarise(ids=ids) | Pin(ids=ids) | Reset(keep=ids):
            return ids
        case Replace(id=entry_id):
            return (entry_id,)
        case Append():
            return ()


def _removed(edit: Edit, entries: Sequence[LogEntry]) -> set[int]:
    """Return which of the entries an edit leaves out."""
    match edit:
        case Drop(ids=ids) | Summarise(ids=ids):
            return {entry.id for entry in entries}.intersection(ids)
        case Reset(keep=kept):
            return {entry.id for entry in entries if not entry.pinned}.difference(kept)
        case _:
            return set()


def _require_spoken(name: str, edit: Summarise, replies: Mapping[int, str]) -> None:
    if not edit.ids:
        raise ContextPlanError(f"context strategy {name!r} sums up no entry at all", check="unknown")
    if edit.call is None:
        return
    reply = replies.get(edit.call)
    if reply is None or reply.strip() not in edit.text:
        said = "no such call was made" if reply is None else f"that call's reply was {reply[:80]!r}"
        raise ContextPlanError(
            f"context strategy {name!r} gives a summary as the words of call {edit.call}, and {said}; "
            "leave `call` out for a text that no model wrote",
            check="fabricated",
        )
