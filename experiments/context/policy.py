"""The scripted policy: a pure function of the messages it is shown, so that only what was kept decides.

It follows the newest request with what the prompt tells, and uses the tools that a strategy offers by fixed rules. It
shows mechanics: no judgement of a model is in it.
"""

import re
from collections.abc import Sequence
from typing import Final

from experiments.context.grammar import CLOSING, ORDER
from experiments.context.reading import Knowledge, Seen, read_prompt

from tumbler.contracts.chat import ChatCall, ChatMessage
from tumbler.contracts.values import JSON, Message
from tumbler.dialects import dialect

__all__ = ["act"]

_DIALECT: Final = dialect("hermes")
_HELPER: Final = "You are a helper."
_MOST_NOTES: Final = 4
"""Facts that one reply writes down; more would not fit into it."""
_MOST_REPEATED: Final = 14
"""Facts that one reply says again."""
_MOST_ITEMS: Final = 12
_UNKNOWN: Final = "unknown"
_PLAIN: Final = {"save": ("save", "subject"), "ask": ("ask_helper", "subject"), "read": ("read", "name")}
"""First word of a request → the tool that answers it, and the argument that takes the last word."""
_FILE: Final = re.compile(r"the whole output is in (output-\d+\.txt), read it with read_output")
_READ: Final = re.compile(r'"name": "read_output", "arguments": \{"name": "(output-\d+\.txt)"')
_GO_ON: Final = re.compile(r"go on with offset=(\d+)\]")


def act(messages: Sequence[Message]) -> str:
    """Return the reply to a prompt."""
    seen = read_prompt(messages)
    if messages[0].content.startswith(_HELPER):
        return _help(seen)
    if seen.request is None or _is_outdated(seen):
        return _say("", [*_keep(seen), _call("status")])
    managing = _manage(seen, seen.request)
    if managing is not None:
        return managing
    return _say("", [*_keep(seen), *_plan(seen, seen.request), *_answer(seen, seen.request)])


def _call(name: str, /, **arguments: JSON) -> ChatCall:
    return ChatCall(id="", name=name, arguments=arguments)


def _say(content: str, calls: Sequence[ChatCall]) -> str:
    return _DIALECT.write(ChatMessage(role="assistant", content=content, calls=tuple(calls))).content


def _is_outdated(seen: Seen) -> bool:
    """Return whether the request was made before a branch that is folded now: then it is answered already."""
    return any(each.role != "assistant" and "Result of branch" in each.content for each in seen.after)


def _help(seen: Seen) -> str:
    if seen.newest:
        return "\n".join(map(str, seen.newest.values()))
    subject = seen.messages[0].content.removesuffix("?").rpartition(" ")[2]
    return _say("", [_call("read", name=subject)])


def _manage(seen: Seen, request: str) -> str | None:
    """Return the reply that opens or closes a branch, or asks for compaction, where it is time for it."""
    edge, _, sweep = request.rpartition(" ")
    if seen.refused:
        return None
    if edge == "begin sweep" and "branch" in seen.tools and not seen.called("branch"):
        return _say("", [_call("branch", task=f"sweep {sweep}")])
    if edge != "end sweep":
        return None
    if "return_result" in seen.tools and not seen.called("return_result"):
        opened = [i for i, each in enumerate(seen.messages) if _opens(each, sweep)]
        if opened:
            found = read_prompt(seen.messages[opened[-1] :]).known
            return _say("", [_call("return_result", text=_repeat(found) or "Nothing to report.")])
    if "compact" in seen.tools and not seen.called("compact"):
        return _say(_repeat(seen.known), [_call("compact", reason=f"Sweep {sweep} is done.")])
    return None


def _opens(message: Message, sweep: str) -> bool:
    return (
        message.role != "assistant" and re.search(rf"Branch \d+ is open: sweep {sweep}\n", message.content) is not None
    )


def _repeat(known: Knowledge) -> str:
    return "\n".join(str(fact) for fact in list(known.values())[-_MOST_REPEATED:])


def _keep(seen: Seen) -> list[ChatCall]:
    """Return the calls that write down what the newest messages tell."""
    new = [fact for fact in seen.newest.values() if str(fact) not in seen.kept][:_MOST_NOTES]
    if "note_write" in seen.tools:
        return [_call("note_write", name=fact.name, text=str(fact)) for fact in new]
    if "save_memory" in seen.tools:
        return [_call("save_memory", fact=str(fact)) for fact in new]
    return []


def _plan(seen: Seen, request: str) -> list[ChatCall]:
    """Return the call that writes the list of things to do anew, where this reply changes it."""
    if "todo_write" not in seen.tools:
        return []
    doing = _doing(seen, request)
    if doing is None and ORDER not in seen.newest:
        return []
    done = {fact.subject: fact.value for fact in seen.known.values() if fact.attribute == "state"}
    if doing is not None:
        done[doing[1]] = {"ship": "shipped", "inspect": "inspected"}[doing[0]]
    items: list[JSON] = [_item("inspect", site, done=site in done) for site in _order(seen)]
    items += [_item("ship", subject, done=True) for subject, state in done.items() if state == "shipped"]
    return [_call("todo_write", items=items[:_MOST_ITEMS])]


def _item(action: str, subject: str, *, done: bool) -> JSON:
    return {"text": f"{action} {subject}", "status": "completed" if done else "pending"}


def _doing(seen: Seen, request: str) -> tuple[str, str] | None:
    """Return what the reply does that must be remembered."""
    for call in _answer(seen, request):
        subject = str(call.arguments.get("subject", _UNKNOWN))
        if call.name in ("ship", "inspect") and subject != _UNKNOWN:
            return call.name, subject
    return None


def _order(seen: Seen) -> list[str]:
    order = seen.known.get(ORDER)
    return [] if order is None else order.value.split(", ")


def _answer(seen: Seen, request: str) -> list[ChatCall]:
    """Return the calls that answer a request as well as the prompt allows."""
    match request.split():
        case ["report", "the", "number", number]:
            return [_report(seen, number)]
        case ["report", "the", *attribute, "of", subject]:
            return [_report_fact(seen, " ".join(attribute), subject)]
        case ["ship", subject, *_]:
            known = seen.known.get(("state", subject))
            return [_call("skip" if known is not None else "ship", subject=subject)]
        case ["inspect", *_]:
            return [_inspect_next(seen)]
        case ["publish", "the", "documents", "of", *subjects]:
            return [_publish(seen, subjects)]
        case ["start", "the", "jobs", *jobs, "at", "once"]:
            return [_call("start", subject=job.rstrip(",")) for job in jobs]
        case [verb, *_, last] if verb in _PLAIN:
            name, argument = _PLAIN[verb]
            return [_call(name, **{argument: last})]
        case ["run", *_]:
            return [_call("survey")]
        case _:
            return [_call("next")]


def _inspect_next(seen: Seen) -> ChatCall:
    left = [site for site in _order(seen) if ("state", site) not in seen.known]
    return _call("inspect", subject=left[0] if left else _UNKNOWN)


def _publish(seen: Seen, subjects: Sequence[str]) -> ChatCall:
    found = [_value(seen, "document", subject.rstrip(",")) or _UNKNOWN for subject in subjects]
    return _call("publish", documents=", ".join(found))


def _value(seen: Seen, attribute: str, subject: str) -> str | None:
    fact = seen.known.get((attribute, subject))
    return None if fact is None else fact.value


def _report(seen: Seen, value: str) -> ChatCall:
    closing = _value(seen, *CLOSING)
    return _call("report", value=value) if closing is None else _call("report", value=value, closing=closing)


def _report_fact(seen: Seen, attribute: str, subject: str) -> ChatCall:
    """Return the report of a fact, or the call that may bring it back where it is no longer shown."""
    value = _value(seen, attribute, subject)
    if value is not None:
        return _report(seen, value)
    if "read" in seen.tools and not seen.called("read"):
        return _call("read", name=subject)
    if "read_output" in seen.tools:
        return _read_on(seen) or _report(seen, _UNKNOWN)
    return _report(seen, _UNKNOWN)


def _read_on(seen: Seen) -> ChatCall | None:
    """Return the call that reads the next part of an output that went to a file; None where all is read."""
    replies = [each.content for each in seen.messages if each.role == "assistant"]
    reading = _READ.findall(replies[-1]) if replies else []
    if reading:
        further = _GO_ON.findall(seen.messages[-1].content)
        if further:
            return _call("read_output", name=reading[-1], offset=int(further[-1]))
    read = {name for reply in replies for name in _READ.findall(reply)}
    files = [name for each in seen.messages if each.role != "assistant" for name in _FILE.findall(each.content)]
    left = [name for name in files if name not in read]
    return _call("read_output", name=left[0]) if left else None
