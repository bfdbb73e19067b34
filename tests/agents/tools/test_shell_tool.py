"""The tool `shell`: state that lasts, exit codes, time-outs, output of any size and kind."""

import asyncio

import pytest

from tumbler.errors import SandboxDied
from tumbler_agents.tools.settings import SandboxToolsSettings


async def test_folder_and_variables_last_from_call_to_call(call):
    await call("shell", command="mkdir sub && cd sub && export COLOUR='dark blue'")
    assert (await call("shell", command='pwd; echo "$COLOUR"')).text == "/work/sub\ndark blue"


async def test_a_command_that_fails_tells_its_exit_code_and_both_streams(call):
    output = await call("shell", command="echo out; echo err >&2; (exit 3)")
    assert output.errored
    assert output.text == "[stdout]\nout\n[stderr]\nerr\nExit code: 3"


async def test_a_command_that_prints_nothing_says_so(call):
    output = await call("shell", command="true")
    assert (output.text, output.errored) == ("(no output)", False)


async def test_a_command_that_runs_past_its_time_is_killed_and_the_folder_lasts(call):
    await call("shell", command="cd /tmp")
    output = await call("shell", command="echo begun; sleep 60", timeout=0.5)
    assert output.errored
    assert output.text == "begun\nThe command was killed: it ran past 0.5 seconds."
    assert (await call("shell", command="pwd")).text == "/tmp"


async def test_what_runs_in_the_background_does_not_hold_the_answer_back(call):
    output = await call("shell", command="sleep 60 & echo started", timeout=20)
    assert (output.text, output.errored) == ("started", False)


async def test_a_command_that_reads_its_input_meets_the_end_of_it(call):
    assert (await call("shell", command="cat; read answer; echo done", timeout=20)).text == "done"


@pytest.mark.parametrize(("command", "code", "errored"), [("echo bye; exit 7", 7, True), ("exit", 0, False)])
async def test_a_shell_that_exits_says_so_and_the_next_command_has_a_new_one(call, command, code, errored):
    output = await call("shell", command=command)
    assert output.errored == errored
    assert f"The shell has exited with exit code {code}" in output.text
    assert ("bye" in output.text) == errored
    assert (await call("shell", command="echo here")).text == "here"


async def test_a_wrong_syntax_is_an_answer_and_the_shell_lives_on(call):
    output = await call("shell", command="echo 'no end")
    assert output.errored
    assert (await call("shell", command="echo here")).text.endswith("here")


async def test_calls_that_come_at_once_are_not_mixed(call):
    outputs = await asyncio.gather(*(call("shell", command=f"echo {n}; sleep 0.01; echo {n}") for n in range(8)))
    assert [output.text for output in outputs] == [f"{n}\n{n}" for n in range(8)]


async def test_output_that_is_no_text_is_shown_as_far_as_it_is(call):
    assert (await call("shell", command=r"printf 'a\377b\303\244'")).text == "a\ufffdbä"


class TestBounds:
    @pytest.fixture
    def settings(self):
        return SandboxToolsSettings(output_chars=1000, most_command_seconds=0.5)

    async def test_of_long_output_beginning_and_end_are_shown_and_the_rest_is_counted(self, call):
        output = await call("shell", command="seq 1 10000")
        lines = output.text.split("\n")
        assert (lines[0], lines[-1]) == ("1", "10000")
        assert len(output.text) < 1100
        shown = [line for line in lines if line.isdigit()]
        assert f"{10000 - len(shown)} lines, left out" in output.text

    async def test_the_end_of_output_beyond_what_is_kept_is_counted(self, call):
        output = await call("shell", command="head -c 9000000 /dev/zero | tr '\\0' x", timeout=60)
        assert "611392 bytes more that were not kept" in output.text

    async def test_no_call_gets_more_time_than_the_settings_allow(self, call):
        assert "it ran past 0.5 seconds" in (await call("shell", command="sleep 60", timeout=1e9)).text


class TestFolder:
    @pytest.fixture
    def settings(self):
        return SandboxToolsSettings(folder="/tmp")

    async def test_a_shell_starts_in_the_folder_of_the_settings_again_after_exit(self, call):
        assert (await call("shell", command="pwd")).text == "/tmp"
        await call("shell", command="cd /; exit")
        assert (await call("shell", command="pwd")).text == "/tmp"


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({}, "'command' is missing"),
        ({"command": 3}, "'command' is wrong"),
        ({"command": ""}, "'command' is wrong"),
        ({"command": "a\0b"}, "NUL"),
        ({"command": "\ud800"}, "'command' is wrong"),
        ({"command": "true", "timeout": -1}, "'timeout' is wrong"),
        ({"command": "true", "comand": "x"}, "no argument 'comand'. Did you mean 'command'?"),
    ],
)
async def test_wrong_arguments_are_answered_by_name(call, arguments, named):
    output = await call("shell", **arguments)
    assert output.errored
    assert named in output.text


async def test_a_closed_set_opens_another_shell_when_it_is_used_again(kit, call):
    await call("shell", command="cd /tmp")
    await kit.close()
    await kit.close()
    assert (await call("shell", command="pwd")).text == "/work"


async def test_a_dead_sandbox_is_raised_and_not_answered(call, box):
    await box.delete()
    for name, arguments in {"shell": {"command": "true"}, "read": {"path": "a"}, "list": {}}.items():
        with pytest.raises(SandboxDied):
            await call(name, **arguments)
