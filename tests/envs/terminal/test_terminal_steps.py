"""Steps: what the shell keeps, how outcomes read, and calls that are malformed."""

import pytest

from tumbler.contracts.sandbox import ExecResult
from tumbler.contracts.values import ToolCall
from tumbler.errors import CapabilityError, ContractError, SandboxDied, SessionEnded
from tumbler_envs.terminal.environment import TerminalEnvironment
from tumbler_envs.terminal.rendering import ended, plain, render
from tumbler_envs.terminal.settings import TerminalSettings
from tumbler_envs.terminal.shell import TaskShell


async def test_the_shell_keeps_its_folder_and_variables(begin_folder):
    async with begin_folder() as episode:
        await episode.run("mkdir den; cd den; export a=5; b=6; f() { echo $a$b; }")
        assert (await episode.run("pwd; f")).observation == "/app/den\n56"


async def test_a_failure_shows_its_status_and_names_no_line(begin_folder):
    async with begin_folder() as episode:
        for _ in range(2):
            result = await episode.run("echo out; oak")
            assert result.observation == "out\nbash: oak: command not found\nexit 127"
            assert result.errored
            assert result.info["exit_code"] == 127
        assert (await episode.run("true")).observation == "(no output)"


async def test_a_command_that_takes_too_long_ends_and_the_shell_goes_on(begin_folder):
    async with begin_folder({"command_timeout": 0.5}) as episode:
        await episode.run("mkdir den; cd den; export a=5")
        result = await episode.run("echo early; sleep 60; echo late")
        assert result.errored
        assert not result.terminated
        assert result.observation == "early\n(timed out after 0.5 s; the shell was started anew in the same folder)"
        assert (await episode.run("pwd; echo $a")).observation == "/app/den\n5"


@pytest.mark.parametrize(("command", "status"), [("echo bye; exit", 0), ("echo bye; exit 3", 3)])
async def test_a_shell_that_exits_is_followed_by_a_new_one(begin_folder, command, status):
    async with begin_folder() as episode:
        await episode.run("cd /tmp; a=5")
        result = await episode.run(command)
        assert result.observation == f"bye\n(the shell exited with {status}; the next command gets a new one)"
        assert (result.errored, result.terminated) == (status != 0, False)
        assert (await episode.run("pwd; echo $a.")).observation == "/app\n."


async def test_a_long_output_shows_its_beginning_and_its_end(begin_folder):
    async with begin_folder({"observation_limit": 200}) as episode:
        seen = (await episode.run("seq 1000")).observation
        assert seen.startswith("1\n2\n3\n")
        assert seen.endswith("\n999\n1000")
        assert "[3692 characters left out]" in seen
        assert len(seen) < 250
        flood = (await episode.run("head -c 3000000 /dev/zero | tr '\\0' x")).observation
        assert "more was thrown away" in flood
        assert len(flood) < 300


async def test_a_text_is_written_to_a_file(begin_folder):
    async with begin_folder({"tools": ("shell", "write_file")}) as episode:
        result = await episode.call("write_file", path="a b/-c", content="it's $HOME\n`x` é\n")
        assert result.observation == "wrote 18 bytes to a b/-c"
        assert (await episode.run("cat 'a b/-c'")).observation == "it's $HOME\n`x` é"
        assert (await episode.call("write_file", path="/app/empty", content="")).observation.startswith("wrote 0")


async def test_a_text_is_written_as_the_sandboxs_user_and_no_further(begin_folder):
    async with begin_folder({"tools": ("shell", "write_file")}) as episode:
        for path in ("/etc/passwd", "/tests/test.sh", "/app"):
            result = await episode.call("write_file", path=path, content="x")
            assert result.errored, path
            assert "exit" in result.observation


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("python", {"command": "ls"}, "there is no tool 'python'; there is shell, write_file"),
        ("shell", {}, "shell needs the argument command"),
        ("shell", {"command": 3}, "shell needs the argument command"),
        ("shell", {"command": " \n"}, "shell needs the argument command"),
        ("shell", {"command": "ls\0"}, "shell needs the argument command"),
        ("shell", {"command": "echo \ud800"}, "shell needs the argument command"),
        ("write_file", {"path": "x"}, "write_file needs the argument content"),
        ("write_file", {"content": "x"}, "write_file needs the argument path"),
        ("write_file", {"path": "", "content": "x"}, "write_file needs the argument path"),
        ("write_file", {"path": "x", "content": "\ud800"}, "write_file needs the argument content"),
    ],
)
async def test_a_malformed_call_is_answered_not_raised(begin_folder, name, arguments, said):
    async with begin_folder({"tools": ("shell", "write_file")}) as episode:
        result = await episode.call(name, **arguments)
        assert result.errored
        assert said in result.observation


async def test_a_tool_that_is_not_on_offer_is_none():
    assert [tool.name for tool in TerminalEnvironment(TerminalSettings()).tools()] == ["shell"]
    both = TerminalEnvironment(TerminalSettings(tools=("write_file", "shell", "shell"))).tools()
    assert [tool.name for tool in both] == ["write_file", "shell"]


class Dying:
    """A sandbox that dies at the first command."""

    tier = "namespace"

    async def exec(self, command, **options):
        return ExecResult(exit_code=0, stdout=b"", stderr=b"", duration=0.0)

    async def session(self):
        return self

    async def run(self, command, **options):
        raise SandboxDied("out of memory")

    async def close(self):
        pass


async def test_the_death_of_the_sandbox_is_raised():
    environment = TerminalEnvironment(TerminalSettings())
    (task,) = await environment.tasks("train", count=1, seed=0)
    await environment.reset(task, seed=0, sandbox=Dying())
    with pytest.raises(SandboxDied):
        await environment.step(ToolCall(name="shell", arguments={"command": "ls"}))


async def test_use_out_of_order_is_refused_and_closing_twice_is_not():
    environment = TerminalEnvironment(TerminalSettings())
    (task,) = await environment.tasks("train", count=1, seed=0)
    with pytest.raises(ContractError, match="before reset"):
        await environment.step(ToolCall(name="shell", arguments={"command": "ls"}))
    with pytest.raises(ContractError, match="create one from sandbox_spec"):
        await environment.reset(task, seed=0, sandbox=None)
    await environment.close()
    await environment.close()


# Episodes that go on in a copy


async def copied(environment, episode):
    """Return an environment that goes on in a copy of the episode."""
    state, fingerprint = await episode.environment.state(), await episode.environment.fingerprint()
    (fork,) = await episode.sandbox.fork()
    await environment.resume(episode.task, seed=0, sandbox=fork, state=state)
    assert await environment.fingerprint() == fingerprint
    return environment


async def test_a_copy_goes_on_in_the_same_folder_with_the_same_files(begin_folder):
    async with begin_folder() as episode:
        await episode.run("mkdir den; cd den; a=5; echo 1 > x")
        other = await copied(TerminalEnvironment(episode.settings), episode)
        call = ToolCall(name="shell", arguments={"command": "pwd; echo $a; cat x; echo hello > ../greeting"})
        assert (await other.step(call)).observation == "/app/den\n5\n1"
        assert (await other.verify()).success
        assert not (await episode.verify()).success
        await other.close()


async def test_a_shell_that_was_never_used_needs_no_state(begin_folder):
    async with begin_folder() as episode:
        assert await episode.environment.state() is None
        other = await copied(TerminalEnvironment(episode.settings), episode)
        await other.close()


async def test_what_runs_in_the_background_cannot_be_copied(begin_folder):
    async with begin_folder() as episode:
        await episode.run("sleep 60 &")
        with pytest.raises(CapabilityError, match="background process"):
            await episode.environment.state()


class Ended:
    """A sandbox whose shell has exited."""

    async def session(self):
        return self

    async def run(self, command, **options):
        raise SessionEnded("gone", 0)

    async def close(self):
        pass


async def test_a_shell_that_ends_while_it_is_asked_cannot_be_copied():
    with pytest.raises(CapabilityError, match="gone"):
        await TaskShell(Ended(), timeout=1.0).fingerprint("/app")


class Slow(Ended):
    """A sandbox whose shell never answers."""

    async def run(self, command, **options):
        return outcome(exit_code=124, timed_out=True)


async def test_a_shell_that_does_not_answer_cannot_be_copied():
    with pytest.raises(CapabilityError, match="not copied within"):
        await TaskShell(Slow(), timeout=1.0).fingerprint("/app")


# How outcomes read


def outcome(**fields):
    return ExecResult(**{"exit_code": 0, "stdout": b"", "stderr": b"", "duration": 0.0, **fields})


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (outcome(), "(no output)"),
        (outcome(stdout=b"5\n"), "5"),
        (outcome(exit_code=1), "exit 1"),
        (outcome(exit_code=137, oom=True), "exit 137 (out of memory)"),
        (outcome(stdout=b"a\n", stderr=b"b\n", exit_code=2), "a\nb\nexit 2"),
        (outcome(stderr=b"/bin/bash: line 3: x: no\n", exit_code=1), "bash: x: no\nexit 1"),
        (outcome(stdout=b"short", truncated=True), "short\n[output cut; more was thrown away]"),
        (outcome(stdout=b"a" * 20 + b"b" * 20), "aaaaaaaaaa\n[20 characters left out]\nbbbbbbbbbb"),
    ],
)
def test_an_outcome_reads_as(result, text):
    assert render(result, limit=20, timeout=1.0) == text


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\x1b[1;31mred\x1b[0m \x1b]0;title\x07x", "red x"),
        (b"a\r\nb\x00\x01\x07c\td", "a\nb?c\td"),
        ("日本 é 🙂".encode(), "日本 é 🙂"),
        (b"\xff\xfe", "\ufffd\ufffd"),
    ],
)
def test_bytes_read_as(data, text):
    assert plain(data) == text


def test_an_end_without_a_status_reads_so():
    assert ended(None, None, limit=200) == "(the shell exited; the next command gets a new one)"
