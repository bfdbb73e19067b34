"""The context strategy `todo`: the policy keeps a plan, which is shown to it again and survives every compaction."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Final, Literal

from pydantic import PositiveInt

from tumbler.config import Settings
from tumbler.contracts.context import Budget, Plan, State, StrategyAnswer, StrategyCaps, Trigger, View
from tumbler.contracts.environment import Task
from tumbler.contracts.values import JSON, JSONObject, ToolCall, ToolSpec
from tumbler_agents.context.calling import MalformedCall, ToolName, refused, required_text
from tumbler_agents.context.measuring import counter
from tumbler_agents.context.reciting import is_shown, newest_exchange, recite

__all__ = ["Todo", "TodoSettings"]

_MARKS: Final[Mapping[str, str]] = {"pending": "[ ]", "in_progress": "[>]", "completed": "[x]"}
_DESCRIPTION = """\
Writes your plan, in place of the one before: give all items each time. Use it for a task of three or more steps: write
the steps before you begin, keep one item in progress, and mark each as completed as soon as it is done. The plan is
shown to you again as you go on, also when older messages are gone."""


class TodoSettings(Settings):
    """How often the plan is recited, and where."""

    every: PositiveInt = 5
    """Turns after which the plan is shown again; sooner where it is no longer in view."""

    place: Literal["merge", "end"] = "merge"
    """Where: "merge" puts it into the newest output, which keeps the token prefix; "end" makes it a last message that
    one prompt holds, and the prompt after it starts a new segment."""

    max_tokens: PositiveInt = 1024
    """Tokens of the plan, at most; a longer one is refused."""

    tool: ToolName = "todo_write"
    """The tool's name."""


class Todo:
    """Recites the plan when it has not been shown for some turns, and at once when a compaction has taken it.

    Put it after the strategies that compact: then no prompt is without the plan.
    """

    def __init__(self, settings: TodoSettings) -> None:
        """Keep the settings."""
        self._settings = settings

    @property
    def caps(self) -> StrategyCaps:
        """Promise to keep what was shown; a plan at the end is gone from the prompt after it."""
        return StrategyCaps(rewrites="never" if self._settings.place == "merge" else "batched")

    def start(self, task: Task, rng: Random) -> State:
        """Begin without a plan."""
        return {"items": [], "shown": 0}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        """Recite the plan when it is due."""
        text = _recital(state["items"])
        turn, shown = newest_exchange(view), state["shown"]
        if not text or (is_shown(view, text) and isinstance(shown, int) and turn - shown < self._settings.every):
            return Plan()
        edits = recite(view, budget, text, merge=self._settings.place == "merge")
        if edits:
            state["shown"] = turn
        return Plan(edits=edits)

    def tools(self) -> Sequence[ToolSpec]:
        """Return the tool that writes the plan."""
        return [ToolSpec(name=self._settings.tool, description=_DESCRIPTION, parameters=_parameters())]

    async def call(self, call: ToolCall, view: View, state: State) -> StrategyAnswer:
        """Take the plan, and answer with it as it will be shown."""
        try:
            items = _items(call)
        except MalformedCall as error:
            return refused(error)
        text = _recital(items)
        tokens = counter(view)(text)
        if tokens > self._settings.max_tokens:
            return refused(f"the plan has {tokens} tokens and may have {self._settings.max_tokens}; write it shorter")
        state["items"], state["shown"] = items, newest_exchange(view)
        return StrategyAnswer(text=text or "The plan is empty now.")


def _items(call: ToolCall) -> list[JSON]:
    given = call.arguments.get("items")
    if not isinstance(given, Sequence) or isinstance(given, str):
        raise MalformedCall(
            f'{call.name} needs the argument items: a list such as [{{"text": "…", "status": "pending"}}]'
        )
    return [_item(call.name, index, item) for index, item in enumerate(given, 1)]


def _item(tool: str, index: int, item: JSON) -> JSONObject:
    if not isinstance(item, Mapping):
        raise MalformedCall(f'item {index} of {tool} must be an object such as {{"text": "…", "status": "pending"}}')
    status = item.get("status", "pending")
    if not isinstance(status, str) or status not in _MARKS:
        raise MalformedCall(f"the status of item {index} of {tool} must be one of {', '.join(_MARKS)}")
    text = required_text(ToolCall(name=f"item {index} of {tool}", arguments=item), "text")
    # One line each, so that an item cannot pass for several.
    return {"text": " ".join(text.split()), "status": status}


def _recital(items: JSON) -> str:
    """Return the plan as it is shown; nothing where there is none."""
    found = [item for item in items if isinstance(item, Mapping)] if isinstance(items, Sequence) else []
    if not found:
        return ""
    done = sum(item["status"] == "completed" for item in found)
    lines = [f"{_MARKS[str(item['status'])]} {item['text']}" for item in found]
    return "\n".join([f"Your plan, {done} of {len(found)} completed:", *lines])


def _parameters() -> JSONObject:
    item: JSONObject = {
        "type": "object",
        "properties": {"text": {"type": "string"}, "status": {"type": "string", "enum": list(_MARKS)}},
        "required": ["text", "status"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"items": {"type": "array", "items": item}},
        "required": ["items"],
        "additionalProperties": False,
    }
