"""Episodes that go on in a copy: of a session's state, of the twin's files, and what cannot be copied."""

import json

import pytest

from tumbler.contracts.environment import ResumableEnvironment
from tumbler.contracts.values import ToolCall
from tumbler.errors import CapabilityError, ContractError, SessionEnded
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings
from tumbler_envs.shells.carrying import Carried, capture_command, parse_capture, restore_commands
from tumbler_envs.trail.environment import TrailEnvironment
from tumbler_envs.trail.generation import generate_tasks
from tumbler_envs.trail.settings import TrailSettings
from tumbler_envs.trail.shell import SessionShell

(TASK,) = generate_tasks(TrailSettings(kinds=("archive",)), "train", count=1, seed=0)
TWIN = TrailSettings(shell="twin")


async def run(environment, command):
    return await environment.step(ToolCall(name="shell", arguments={"command": command}))


@pytest.fixture
async def backend(tmp_path):
    backend = BubblewrapBackend(BubblewrapSettings(root=tmp_path / "sandboxes", cache=tmp_path / "cache", grace=0.2))
    await backend.start()
    yield backend
    await backend.close()


@pytest.fixture
async def make_copy(backend):
    """Runs commands in an episode and returns it, with one that goes on in a copy of it."""
    made = []

    async def make(*commands):
        first = TrailEnvironment(TrailSettings())
        sandbox = await backend.create(first.sandbox_spec(TASK))
        await first.reset(TASK, seed=0, sandbox=sandbox)
        for command in commands:
            await run(first, command)
        state, fingerprint = await first.state(), await first.fingerprint()
        (fork,) = await sandbox.fork()
        second = TrailEnvironment(TrailSettings())
        await second.resume(TASK, seed=0, sandbox=fork, state=json.loads(json.dumps(state)))
        made.extend([first, second])
        assert await second.fingerprint() == fingerprint
        return first, second

    yield make
    for environment in made:
        await environment.close()


def test_trail_is_resumable():
    assert isinstance(TrailEnvironment(TrailSettings()), ResumableEnvironment)


CARRIED = {
    "the folder": ("mkdir -p 'a b'; cd 'a b'", "pwd; cd -"),
    "variables": ("a=5; b='x  y'; c=$'two\nlines'; d='$a `ls`'", 'echo "$a $b $c $d"'),
    "exported variables": ("export A=7 B", "bash -c 'echo $A'; export -p | grep -c ' B$'"),
    "variables that are gone": ("unset LC_ALL", "echo ${LC_ALL-none}"),
    "arrays": ("a=(1 'two words' 3); declare -A b=([x]=1 [y z]=2)", 'echo "${#a[@]} ${a[1]} ${b[y z]}"'),
    "integers and constants": ("declare -i n=3; readonly k=4", "n+=2; echo $n; k=5; echo $k"),
    "functions": ('f() { echo "hi $1"; }; g() { f there; }', "g"),
    "exported functions": ("f() { echo hi; }; export -f f", "bash -c f"),
    "aliases": ("shopt -s expand_aliases; alias q='echo quick'", "q brown"),
    "options": ("set -f; set -o pipefail; shopt -s nullglob", "echo *; false | true; echo $?; shopt nullglob"),
    "the umask": ("umask 077", "echo 1 > new; stat -c %a new"),
    "the last status": ("expr 3 + a", "echo $?"),
    "a separator of words": ("IFS=:", "a=x:y; echo $a"),
    "files": ("echo 5 > answer; mkdir den; echo 6 > den/x; ln -s den/x link; rm start", "ls; cat answer link"),
}


@pytest.mark.parametrize("what", CARRIED)
async def test_a_copy_of_a_session_carries_over(make_copy, what):
    command, question = CARRIED[what]
    first, second = await make_copy(command)
    expected = await run(first, question)
    assert await run(second, question) == expected


async def test_a_shell_that_ends_at_the_first_failure_still_does(make_copy):
    first, second = await make_copy("set -e")
    for environment in (first, second):
        assert (await run(environment, "echo yes")).observation == "yes"
        assert (await run(environment, "false")).terminated


async def test_a_shell_that_has_ended_stays_so(make_copy):
    _, second = await make_copy("exit 3")
    assert (await run(second, "ls")).terminated


async def test_what_the_copy_does_the_first_does_not_see(make_copy):
    first, second = await make_copy("a=5")
    await run(second, "a=6; echo 7 > answer")
    assert (await run(first, "echo $a; cat answer")).observation.startswith("5\ncat: answer: No such file")


@pytest.mark.parametrize(
    "command",
    ["echo 5 > answer", "chmod 600 start", "ln -s start link", "mkdir den", "cd ..", "a=5", "f() { :; }", "set -u"],
)
async def test_a_difference_shows_in_the_fingerprint(make_copy, command):
    first, second = await make_copy()
    await run(second, command)
    assert await second.fingerprint() != await first.fingerprint()


async def test_when_something_was_done_does_not_show_in_the_fingerprint(make_copy):
    first, second = await make_copy()
    await run(first, "echo 5 > answer")
    await run(second, "echo 5 > answer; touch -d 2001-01-01 answer start")
    assert await second.fingerprint() == await first.fingerprint()


async def test_a_process_in_the_background_cannot_be_copied(open_folder, episode):
    async with episode(TASK, open_sandbox=open_folder) as walk:
        await walk.run("sleep 60 &")
        with pytest.raises(CapabilityError, match="background process"):
            await walk.environment.state()


async def test_files_that_cannot_be_read_cannot_be_compared(open_folder, episode):
    async with episode(TASK, open_sandbox=open_folder) as walk:
        await walk.run("tar() { true; }; PATH=/nowhere")
        assert await walk.environment.fingerprint()
        await walk.run("cd /; builtin command -p mv /work /work-moved")
        with pytest.raises(CapabilityError, match="cannot be compared"):
            await walk.environment.fingerprint()
        await walk.run("builtin command -p mv /work-moved /work")


def test_a_digest_of_some_of_the_files_is_none():
    kinds = ("status", "folder", "umask", "jobs", "options", "aliases", "exported", "functions", "variables")
    printed = [field for kind in kinds for field in (kind, "")] + ["files"]
    digest = f"{'a' * 64}  -\n"
    assert parse_capture("\0".join([*printed, digest, "end", ""]).encode())[1] == "a" * 64
    with pytest.raises(CapabilityError, match="cannot be compared"):
        parse_capture("\0".join([*printed, digest + "failed", "end", ""]).encode())


class Ended:
    async def run(self, command, **options):
        raise SessionEnded("gone", 0)

    async def close(self):
        pass


async def test_a_session_that_ends_while_it_is_asked_cannot_be_copied():
    with pytest.raises(CapabilityError, match="gone"):
        await SessionShell(Ended(), timeout=1.0).state()


@pytest.mark.parametrize("output", [b"", b"status\x000\x00", b"status\x000\x00end\x00cut"])
def test_an_answer_that_is_cut_is_refused(output):
    with pytest.raises(CapabilityError, match="cannot be read"):
        parse_capture(output)


@pytest.mark.parametrize("state", [3, "x", {"folder": "/work"}, {"status": "0", "surplus": 1}])
def test_a_state_of_another_environment_is_refused(state):
    with pytest.raises(ContractError, match="no state of a shell"):
        Carried.from_json(state)


async def test_names_that_sessions_use_for_themselves_are_left_alone(open_folder, episode):
    async with episode(TASK, open_sandbox=open_folder) as walk:
        (session,) = walk.sandbox.sessions
        await walk.run("__own=1; __f() { :; }; mine=1")
        state, _ = parse_capture((await session.run(capture_command())).stdout)
        assert "mine" in state.variables
        assert not [name for name in (*state.variables, *state.functions) if name.startswith("__")]
        assert not {"BASHPID", "PPID", "RANDOM", "SECONDS", "_"} & set(state.variables)
        assert "declare" not in restore_commands(state, state)


# The twin


async def test_the_twin_goes_on_with_what_was_written_and_unpacked(episode):
    async with episode(TASK) as walk:
        turns = await walk.play()
        expected = await walk.environment.verify()
    for cut in range(len(turns)):
        first, second = TrailEnvironment(TWIN), TrailEnvironment(TWIN)
        await first.reset(TASK, seed=0, sandbox=None)
        for action, _ in turns[:cut]:
            await first.step(action.call)
        state = json.loads(json.dumps(await first.state()))
        await second.resume(TASK, seed=0, sandbox=None, state=state)
        assert await second.fingerprint() == await first.fingerprint()
        assert [await second.step(action.call) for action, _ in turns[cut:]] == [result for _, result in turns[cut:]]
        assert await second.verify() == expected


async def test_the_twins_state_holds_no_more_than_was_changed():
    environment = TrailEnvironment(TWIN)
    await environment.reset(TASK, seed=0, sandbox=None)
    assert await environment.state() == {"ended": False, "files": {}}
    await run(environment, "echo 5 > answer")
    assert await environment.state() == {"ended": False, "files": {"answer": "5\n"}}
    await run(environment, "exit")
    other = TrailEnvironment(TWIN)
    await other.resume(TASK, seed=0, sandbox=None, state=await environment.state())
    assert (await run(other, "ls")).terminated


async def test_a_file_shows_in_the_twins_fingerprint():
    environment = TrailEnvironment(TWIN)
    await environment.reset(TASK, seed=0, sandbox=None)
    before = await environment.fingerprint()
    await run(environment, "echo 5 > answer")
    assert await environment.fingerprint() != before


@pytest.mark.parametrize("state", [None, [], {"ended": False}, {"files": 3}])
async def test_the_twin_refuses_what_is_no_state_of_it(state):
    with pytest.raises(ContractError, match="no state of the twin"):
        await TrailEnvironment(TWIN).resume(TASK, seed=0, sandbox=None, state=state)
