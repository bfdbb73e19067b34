"""The dialect `plain`: a line `$ command` calls the shell, a line `@tool {json}` any other tool; for tiny models.

A reply makes one call at most, and what stands before it is content. A line of content that starts with `$` or `@`
gets a backslash before it.
"""

import re
from collections.abc import Sequence

from tumbler.contracts.chat import ChatCall, ChatMessage
from tumbler.contracts.values import Message, ToolSpec
from tumbler.dialects.calls import Found, name_calls
from tumbler.dialects.json_text import read_object, write_json
from tumbler.dialects.thinking import join_thinking, quote, split_thinking, unquote
from tumbler.errors import ContractError

__all__ = ["DONE", "SHELL", "PlainDialect"]

DONE = "done"
"""What a policy says when it has nothing more to do; it is content like any other."""
SHELL = "shell"
"""The tool that `$` calls, with its one argument `command`."""

_CALL = re.compile(r"(?:\A\s*|^)([$@])", re.MULTILINE)
_BARE = re.compile(r"(\A\s*|^)(\\*[$@])", re.MULTILINE)
_QUOTED = re.compile(r"(\A\s*|^)\\(\\*[$@])", re.MULTILINE)
_NAME = re.compile(r"[^\s{]+")


class PlainDialect:
    """Writes and reads one call a reply, on a line of its own. It keeps no state."""

    @property
    def name(self) -> str:
        """Return `plain`."""
        return "plain"

    def system(self, content: str, tools: Sequence[ToolSpec]) -> str:
        """Return the system message: `content`, and one line for each tool."""
        if not tools:
            return content
        lines = ["Act one step at a time. Each reply is one call:", *(_describe(tool) for tool in tools)]
        lines.append(f"When the task is finished, reply: {DONE}")
        return "\n".join(([content, ""] if content else []) + lines)

    def write(self, message: ChatMessage) -> Message:
        """Return a message as text; raise `ContractError` for a reply that cannot be written on one line."""
        if message.role == "tool":
            return Message(role="user", content=message.content)
        if message.role != "assistant":
            return Message(role=message.role, content=message.content)
        content = _BARE.sub(r"\1\\\2", quote(message.content))
        parts = ([content] if content else []) + [_write_call(call) for call in _only(message.calls)]
        return Message(role="assistant", content=join_thinking(message.thinking, "\n".join(parts)))

    def merge(self, messages: Sequence[ChatMessage]) -> Sequence[Message]:
        """Return a conversation as text, message by message."""
        return [self.write(message) for message in messages]

    def read(self, text: str, *, call_prefix: str) -> ChatMessage:
        """Return what the policy's text says; a command is all that follows its `$`, to the end."""
        thinking, rest, _ = split_thinking(text)
        match = _CALL.search(rest)
        found = [] if match is None else [_read_call(match[1], rest[match.end() :])]
        before = rest if match is None else rest[: match.start(1)].rpartition("\n")[0]
        content = unquote(_QUOTED.sub(r"\1\2", before))
        return ChatMessage(role="assistant", content=content, thinking=thinking, calls=name_calls(found, call_prefix))


def _describe(tool: ToolSpec) -> str:
    if tool.name == SHELL:
        return f"$ COMMAND runs a shell command. {tool.description}"
    return f"@{tool.name} {write_json(tool.parameters)} {tool.description}"


def _only(calls: Sequence[ChatCall]) -> Sequence[ChatCall]:
    if len(calls) > 1:
        raise ContractError(f"the dialect plain writes one call a reply, not {len(calls)}; use the dialect hermes")
    return calls


def _write_call(call: ChatCall) -> str:
    command = call.arguments.get("command")
    if call.name == SHELL and len(call.arguments) == 1 and isinstance(command, str) and _stands_alone(command):
        return f"$ {command}"
    if not _NAME.fullmatch(call.name):
        raise ContractError(f"the dialect plain cannot write the tool name {call.name!r}; use the dialect hermes")
    return f"@{call.name} {write_json(call.arguments)}"


def _stands_alone(command: str) -> bool:
    return bool(command) and command == command.strip()


def _read_call(sign: str, text: str) -> Found:
    if sign == "$":
        command = text.strip()
        return Found(name=SHELL, arguments={"command": command}) if command else Found(problem="no command after $")
    match = _NAME.match(text.strip())
    if match is None:
        return Found(problem="no tool name after @")
    try:
        return Found(name=match[0], arguments=read_object(text.strip()[match.end() :]))
    except ValueError as error:
        return Found(name=match[0], problem=f"the arguments of {match[0]} cannot be read: {error}")
