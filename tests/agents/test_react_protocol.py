"""The text protocol of `react`: what is written is read back, and what is no call is answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumbler.contracts.values import ToolCall
from tumbler_agents.react import protocol

COMMANDS = st.text(min_size=1).map(str.strip)


@given(COMMANDS.filter(bool))
def test_a_written_command_is_read_back(command: str) -> None:
    call = ToolCall(name="shell", arguments={"command": command})
    assert protocol.parse(protocol.write(call)) == call


@given(st.dictionaries(st.text(), st.one_of(st.integers(), st.text(), st.none()), max_size=3))
def test_a_written_tool_call_is_read_back(arguments: dict[str, object]) -> None:
    call = ToolCall(name="look", arguments=arguments)  # type: ignore[arg-type]  # hypothesis makes JSON values
    assert protocol.parse(protocol.write(call)) == call


def test_done_ends_the_episode_and_so_does_thought_before_it() -> None:
    assert protocol.parse(protocol.write(None)) is None
    assert protocol.parse("all files are there\ndone") is None


def test_thought_before_a_command_is_not_carried_out() -> None:
    assert protocol.parse("I should look.\n$ ls\ncat a") == ToolCall(name="shell", arguments={"command": "ls\ncat a"})


@pytest.mark.parametrize("text", ["", "hello", "$", "@", "@look {", "@look [1]", "done and dusted"])
def test_a_reply_that_is_no_call_says_what_is_wrong(text: str) -> None:
    outcome = protocol.parse(text)
    assert isinstance(outcome, protocol.Malformed)
    assert outcome.reason.startswith("error: ")


@given(st.text())
def test_no_reply_breaks_the_parser(text: str) -> None:
    protocol.parse(text)


@pytest.mark.parametrize(
    "arguments",
    ['{"n": ' + "1" * 5000 + "}", "[" * 100_000, '{"n": NaN}', '{"text": "\\ud800"}'],
    ids=lambda each: each[:12],
)
def test_arguments_that_no_record_could_hold_are_malformed_and_end_no_run(arguments):
    found = protocol.parse(f"@tool {arguments}")
    assert isinstance(found, protocol.Malformed) and "the arguments of tool are not JSON" in found.reason
