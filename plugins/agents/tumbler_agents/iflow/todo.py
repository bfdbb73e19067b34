"""The todo list and its tool; knows no conversation."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from tumbler.contracts.values import JSON
from tumbler_agents.tools.checked import Arguments, CheckedTool, Refusal
from tumbler_agents.tools.tool import ToolOutput

__all__ = ["TodoArguments", "TodoItem", "TodoList", "todo_tool"]

_MARKS = {"pending": "[ ]", "in_progress": "[~]", "completed": "[x]"}


class TodoItem(BaseModel):
    """One thing to do."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    content: str = Field(min_length=1, max_length=500)
    """What is to be done."""

    status: Literal["pending", "in_progress", "completed"] = "pending"
    """How far it is."""


class TodoArguments(Arguments):
    """Write down the whole todo list, in place of the one before. Keep one item in progress and mark items completed
    as soon as they are.
    """

    todos: list[TodoItem] = Field(max_length=50)
    """All items, in order."""


class TodoList:
    """What the agent wants to do."""

    def __init__(self, items: Sequence[TodoItem] = (), turns_since: int = 0) -> None:
        """Start with these items."""
        self.items = list(items)
        self.turns_since = turns_since
        """Model calls since it was last written."""

    def write(self, items: Sequence[TodoItem]) -> None:
        """Replace the list."""
        self.items = list(items)
        self.turns_since = 0

    @property
    def open(self) -> int:
        """Return how many items are not completed."""
        return sum(item.status != "completed" for item in self.items)

    def shown(self) -> str:
        """Return the list as text, one item a line; empty where there is none."""
        return "\n".join(f"{_MARKS[item.status]} {item.content}" for item in self.items)

    def state(self) -> JSON:
        """Return the items as JSON."""
        return [{"content": item.content, "status": item.status} for item in self.items]


def todo_tool(todo: TodoList) -> CheckedTool[TodoArguments]:
    """Return the tool `todo_write`."""

    async def carry_out(given: TodoArguments) -> ToolOutput:
        working = [item.content for item in given.todos if item.status == "in_progress"]
        if len(working) > 1:
            raise Refusal(f"{len(working)} items are in progress; keep one: {', '.join(working[:5])}")
        todo.write(given.todos)
        return ToolOutput(text=f"Todo list:\n{todo.shown()}" if todo.items else "The todo list is empty.")

    return CheckedTool("todo_write", TodoArguments, carry_out)
