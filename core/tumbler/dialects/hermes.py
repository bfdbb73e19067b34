"""The dialect `hermes`: JSON calls in `<tool_call>` tags, as the chat templates of Qwen2.5 and Qwen3 write them.

Only replies of the policy are ever read. What users and tools say is written word for word, as the templates do; in
what an assistant says, tags that are not meant as such are quoted.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

from tumbler.contracts.chat import ChatCall, ChatMessage
from tumbler.contracts.values import JSONObject, Message, ToolSpec
from tumbler.dialects.calls import Found, name_calls, understand
from tumbler.dialects.json_text import read_json_at, skip_space, write_json
from tumbler.dialects.thinking import (
    END,
    close_thinking,
    join_thinking,
    quote,
    quote_json,
    split_thinking,
    unquote,
)

__all__ = ["HermesDialect"]

_OPEN = "<tool_call>"
_CLOSE = "</tool_call>"
_OUTSIDE = re.compile(f"{_OPEN}|{END}")
_INSIDE = re.compile(f"{_OPEN}|{_CLOSE}")
_MOST_BROKEN = 32
"""After so many broken blocks the rest of a reply is one more: each costs a pass over the text before it."""

_TOOLS = """# Tools

You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a json object with function name and arguments within <tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""


class HermesDialect:
    """Writes and reads tool calls in tags. It keeps no state."""

    @property
    def name(self) -> str:
        """Return `hermes`."""
        return "hermes"

    def system(self, content: str, tools: Sequence[ToolSpec]) -> str:
        """Return the system message: `content`, and the tools as JSON, one a line."""
        if not tools:
            return content
        described = _TOOLS.format(tools="\n".join(_describe(tool) for tool in tools))
        return f"{content}\n\n{described}" if content else described

    def write(self, message: ChatMessage) -> Message:
        """Return a message as text. A tool's result is a user's message, since templates know no other."""
        if message.role == "tool":
            return Message(role="user", content=f"<tool_response>\n{message.content}\n</tool_response>")
        if message.role != "assistant":
            return Message(role=message.role, content=message.content)
        parts = [quote(message.content)] if message.content else []
        parts += [_write_call(call) for call in message.calls]
        return Message(role="assistant", content=join_thinking(message.thinking, "\n".join(parts)))

    def merge(self, messages: Sequence[ChatMessage]) -> Sequence[Message]:
        """Return a conversation as text; results that follow each other share a message."""
        merged: list[Message] = []
        for of_tools, group in groupby(messages, key=lambda message: message.role == "tool"):
            written = [self.write(message) for message in group]
            if of_tools:
                written = [Message(role="user", content="\n".join(each.content for each in written))]
            merged += written
        return merged

    def read(self, text: str, *, call_prefix: str) -> ChatMessage:
        """Return what the policy's text says.

        A closing `</think>` that nothing opened ends the thinking, since some templates open it in the prompt;
        within the JSON of a call it is just a string's. Text beside and after calls is content.
        """
        thinking, rest, opened = split_thinking(text)
        scan = _Scan(rest).run()
        if not opened and scan.thought_end is not None:
            thinking, rest = close_thinking(rest, scan.thought_end)
            scan = _Scan(rest).run()
        return ChatMessage(
            role="assistant", content=scan.content(), thinking=thinking, calls=name_calls(scan.calls, call_prefix)
        )


@dataclass
class _Scan:
    """One pass over a reply."""

    text: str
    pieces: list[str] = field(default_factory=list)
    """What stands before the first call, between calls, and after the last one."""
    calls: list[Found] = field(default_factory=list)
    thought_end: int | None = None
    """Where the first `</think>` outside of calls is."""
    broken: int = 0

    def run(self) -> "_Scan":
        """Read the whole text and return this scan."""
        start = position = 0
        while match := _OUTSIDE.search(self.text, position):
            position = match.end()
            if match[0] == END:
                self.thought_end = match.start() if self.thought_end is None else self.thought_end
                continue
            self.pieces.append(self.text[start : match.start()])
            start = position = self._block(position)
        self.pieces.append(self.text[start:])
        return self

    def content(self) -> str:
        """Return the text that is no call."""
        first, *others = self.pieces
        if others:
            first = first.removesuffix("\n")
        kept = [piece.strip() for piece in others]
        return unquote("\n".join(part for part in (first, *kept) if part))

    def _block(self, position: int) -> int:
        """Read the calls of a block from after its opening tag; return where it ends."""
        start = position = skip_space(self.text, position)
        if self.broken >= _MOST_BROKEN:
            return self._break(f"after {_MOST_BROKEN} broken calls the rest is not read", len(self.text))
        while position < len(self.text) and self.text[position] in "{[,":
            position = skip_space(self.text, position + 1) if self.text[position] == "," else position
            try:
                value, position = read_json_at(self.text, position)
            except ValueError as error:
                return self._skip(position, f"the call is not JSON: {error}")
            self.calls += understand(value)
            position = skip_space(self.text, position)
        return self._close(position, empty=position == start)

    def _close(self, position: int, *, empty: bool) -> int:
        """Return where a block ends whose JSON ends here, its closing tag forgotten or not."""
        if self.text.startswith(_CLOSE, position):
            return self._break("the call is empty", position + len(_CLOSE)) if empty else position + len(_CLOSE)
        if empty:
            return self._skip(position, "the call is not JSON")
        tag = _INSIDE.search(self.text, position)
        if tag is None or tag[0] == _OPEN:
            return position
        return self._break("there is more than JSON in the call", tag.end())

    def _skip(self, position: int, problem: str) -> int:
        """Return the end of a block that cannot be read from here on."""
        tag = _INSIDE.search(self.text, position)
        if tag is None:
            return self._break(f"{problem}; the reply ends before </tool_call>", len(self.text))
        return self._break(problem, tag.start() if tag[0] == _OPEN else tag.end())

    def _break(self, problem: str, end: int) -> int:
        self.broken += 1
        self.calls.append(Found(problem=problem))
        return end


def _describe(tool: ToolSpec) -> str:
    function: JSONObject = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return quote_json(write_json({"type": "function", "function": function}))


def _write_call(call: ChatCall) -> str:
    body = write_json({"name": call.name, "arguments": call.arguments})
    return f"{_OPEN}\n{quote_json(body)}\n{_CLOSE}"
