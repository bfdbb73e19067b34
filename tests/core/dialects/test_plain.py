"""The dialect plain reads what it writes, and makes one call of a reply at most."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.dialects.conversations import TAGS, names, replies, texts, with_ids

from tumbler.contracts.chat import ChatCall, ChatMessage, Dialect
from tumbler.contracts.values import Message, ToolSpec
from tumbler.dialects import dialect
from tumbler.errors import ContractError

PLAIN = dialect("plain")


def read(text: str) -> ChatMessage:
    return PLAIN.read(text, call_prefix="c")


def shell(command: str) -> ChatCall:
    return ChatCall(id="c0", name="shell", arguments={"command": command})


def test_plain_is_a_dialect() -> None:
    assert isinstance(PLAIN, Dialect)


@given(replies(1, st.one_of(names, st.just("shell"))))
def test_what_is_written_is_read_again_whatever_it_says(message: ChatMessage) -> None:
    assert read(PLAIN.write(message).content) == with_ids(message, "c")


@given(texts, texts)
def test_commands_are_read_as_they_were_written(content: str, command: str) -> None:
    message = ChatMessage(role="assistant", content=content, calls=(shell(command),))
    assert read(PLAIN.write(message).content) == message


@given(st.lists(st.one_of(TAGS, st.text(max_size=6)), max_size=20).map("".join))
def test_any_text_is_read_and_makes_one_call_at_most(text: str) -> None:
    assert len(read(text).calls) <= 1


def test_a_command_is_written_and_read_as_the_line_that_it_is() -> None:
    message = ChatMessage(role="assistant", content="Look.", calls=(shell("ls\ncat a"),))
    assert PLAIN.write(message) == Message(role="assistant", content="Look.\n$ ls\ncat a")
    assert read("Look.\n$ ls\ncat a") == message
    assert read("  $ls ").calls == (shell("ls"),)


def test_a_command_that_would_lose_its_blanks_is_written_as_json() -> None:
    written = PLAIN.write(ChatMessage(role="assistant", calls=(shell(" ls"),)))
    assert written.content == '@shell {"command": " ls"}'


def test_a_line_of_content_that_looks_like_a_call_is_quoted() -> None:
    message = ChatMessage(role="assistant", content="It costs\n$ 5")
    assert PLAIN.write(message).content == "It costs\n\\$ 5"


def test_another_tool_is_called_with_json() -> None:
    assert read('@open {\n"path": "a"}').calls == (ChatCall(id="c0", name="open", arguments={"path": "a"}),)
    assert read("@look").calls == (ChatCall(id="c0", name="look", arguments={}),)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("$ ", "no command"),
        ("@ {}", "no tool name"),
        ("@open {", "arguments of open cannot be read"),
        ("@open {} and more", "more text after"),
        ("@open [1]", "must be a JSON object"),
    ],
)
def test_what_is_no_call_tells_the_policy_why(text: str, words: str) -> None:
    (call,) = read(text).calls
    assert call.problem is not None and words in call.problem
    assert not call.arguments


def test_the_word_that_ends_an_episode_is_content_without_a_call() -> None:
    assert read("done") == ChatMessage(role="assistant", content="done")


def test_a_reply_with_two_calls_or_an_odd_name_cannot_be_written() -> None:
    two = ChatMessage(role="assistant", calls=(shell("a"), shell("b")))
    with pytest.raises(ContractError, match="one call a reply, not 2"):
        PLAIN.write(two)
    with pytest.raises(ContractError, match="'my tool'"):
        PLAIN.write(ChatMessage(role="assistant", calls=(ChatCall(id="1", name="my tool", arguments={}),)))


def test_the_system_message_explains_each_tool_on_a_line() -> None:
    tools = [
        ToolSpec(name="shell", description="In the sandbox.", parameters={"type": "object"}),
        ToolSpec(name="open", description="Opens.", parameters={"type": "object"}),
    ]
    assert PLAIN.system("Be brief.", tools).split("\n") == [
        "Be brief.",
        "",
        "Act one step at a time. Each reply is one call:",
        "$ COMMAND runs a shell command. In the sandbox.",
        '@open {"type": "object"} Opens.',
        "When the task is finished, reply: done",
    ]
    assert PLAIN.system("", tools).startswith("Act one step")
    assert PLAIN.system("Be brief.", []) == "Be brief."


def test_what_users_and_tools_say_is_written_word_for_word() -> None:
    said = [ChatMessage(role="user", content="$ rm"), ChatMessage(role="tool", content="@a", call_id="1")]
    assert PLAIN.merge(said) == [Message(role="user", content="$ rm"), Message(role="user", content="@a")]


def test_millions_of_characters_are_read() -> None:
    for unit in ("\n@", "\n$", "\\", "\n\\$", "@a {", " ", "\n"):
        assert len(read(unit * (4_000_000 // len(unit))).calls) <= 1
