"""The verdict: what counts, what does not, and what the agent cannot do about it."""

import asyncio
import shlex
import subprocess
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import ExecResult, SandboxSpec
from tumbler.errors import CapabilityError, SandboxDied, SandboxUnavailable
from tumbler.testing import MemorySandboxBackend
from tumbler_envs.terminal.environment import TerminalEnvironment
from tumbler_envs.terminal.settings import TerminalSettings
from tumbler_envs.terminal.task import TaskFile, TerminalTask
from tumbler_envs.terminal.verification.ending import end_processes
from tumbler_envs.terminal.verification.interpreter import interpreter_of
from tumbler_envs.terminal.verification.judging import judge
from tumbler_envs.terminal.verification.places import Places
from tumbler_envs.terminal.verification.rewards import rewards_of_json, rewards_of_text

TXT, JSON = "/logs/verifier/reward.txt", "/logs/verifier/reward.json"


async def verdict_of(begin_folder, script, *, settings=None, before=(), **words):
    async with begin_folder(settings, test=script, **words) as episode:
        for command in before:
            await episode.run(command)
        return await episode.verify()


async def test_the_expert_of_a_folder_is_rewarded(begin_folder):
    async with begin_folder() as episode:
        await episode.follow_expert()
        verdict = await episode.verify()
        assert (verdict.reward, verdict.success, verdict.details["problem"]) == (1.0, True, None)


async def test_a_task_is_judged_though_no_step_was_ever_made(begin_folder):
    async with begin_folder() as episode:
        await episode.sandbox.write("greeting", b"hello\n")
        assert (await episode.verify()).success


@pytest.mark.parametrize(
    ("script", "reward"),
    [
        (f"echo 1 > {TXT}", 1.0),
        (f"printf ' 1.5 ' > {TXT}; exit 3", 1.5),
        (f"echo 0.5 > {TXT}", 0.0),
        (f"echo -2 > {TXT}", 0.0),
        (f"echo 1 > {JSON}", 1.0),
        (f'echo \'{{"reward": 1, "speed": 0}}\' > {JSON}', 1.0),
        (f"echo '{{\"accuracy\": 1.0}}' > {JSON}", 1.0),
        (f"echo 1 > {TXT}; echo '{{\"reward\": 0}}' > {JSON}", 0.0),
        ("exit 0", 1.0),
        ("exit 1", 0.0),
        ("no-such-program", 0.0),
    ],
)
async def test_the_reward_is_what_the_tests_say(begin_folder, script, reward):
    verdict = await verdict_of(begin_folder, f"#!/bin/bash\n{script}\n")
    assert (verdict.reward, verdict.success) == (reward, reward > 0)
    assert verdict.details["problem"] is None


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (f"touch {TXT}", "no finite number"),
        (f"echo nan > {TXT}", "no finite number"),
        (f"echo 1 1 > {TXT}", "no finite number"),
        (f"echo true > {JSON}", "no finite number"),
        (f"echo Infinity > {JSON}", "no finite number"),
        (f'echo \'{{"reward": "1"}}\' > {JSON}', "no finite number"),
        (f'echo \'{{"a": 1, "b": 1}}\' > {JSON}', "set reward_key"),
        (f"echo '{{' > {JSON}", "no JSON"),
        (f"printf '\\377' > {JSON}", "no JSON"),
        (f"mkdir {TXT}", "cannot be written or read"),
        (f"head -c 100000 /dev/zero > {TXT}", "cannot be written or read"),
    ],
)
async def test_a_reward_that_cannot_be_read_is_a_failure_that_says_why(begin_folder, script, problem):
    verdict = await verdict_of(begin_folder, f"#!/bin/bash\n{script}\nexit 0\n")
    assert not verdict.success
    assert problem in verdict.details["problem"]


@pytest.mark.parametrize("data", [b"[" * 60_000, b"9" * 60_000, b"1e999", b'{"reward": 1e999}'])
def test_json_made_to_break_the_reader_is_no_reward(data):
    assert rewards_of_json(data, key="reward").reward is None


def test_a_text_of_other_than_a_number_is_no_reward():
    assert [rewards_of_text(data).reward for data in (b"", b"yes", b"\xff", b"inf")] == [None] * 4


async def test_partial_rewards_count_from_the_bound_of_the_settings(begin_folder):
    script = f'#!/bin/sh\necho \'{{"speed": 0.6, "accuracy": 0.2}}\' > {JSON}\n'
    settings = {"solved_at": 0.5, "reward_key": "speed", "failure_reward": -1.0}
    verdict = await verdict_of(begin_folder, script, settings=settings)
    assert (verdict.reward, verdict.success) == (0.6, True)
    assert verdict.details["rewards"] == {"speed": 0.6, "accuracy": 0.2}


async def test_a_failure_has_the_reward_of_the_settings_and_tells_what_was_given(begin_folder):
    verdict = await verdict_of(begin_folder, f"#!/bin/sh\necho 0.9 > {TXT}\n", settings={"failure_reward": -1.0})
    assert (verdict.reward, verdict.success, verdict.details["given"]) == (-1.0, False, 0.9)


async def test_tests_that_take_too_long_are_a_failure(begin_folder):
    script = f"#!/bin/sh\necho 1 > {TXT}\necho begun\nsleep 60\n"
    verdict = await verdict_of(begin_folder, script, settings={"verifier_timeout": 0.5})
    assert not verdict.success
    assert verdict.details["problem"] == "the tests took too long"
    assert verdict.details["test_output"] == "begun\n"


async def test_the_tests_run_in_the_working_folder_with_their_own_variables(begin_folder):
    script = '#!/bin/bash\necho "$PWD $LEVEL ${secret-none} $0"; exit 1\n'
    configuration = '[metadata]\nsplit = "train"\n[verifier.env]\nLEVEL = "3"\n[environment]\nworkdir = "/work/in"\n'
    verdict = await verdict_of(
        begin_folder, script, configuration=configuration, before=["export secret=1; cd /tmp; alias echo=true"]
    )
    assert verdict.details["test_output"] == "/work/in 3 none /tests/test.sh\n"


async def test_an_executable_file_is_laid_out_as_one(begin, task_folder):
    folder = task_folder(
        configuration='[metadata]\nsplit = "train"\n', environment={"bin/run": "#!/bin/sh\necho ran\n", "readme": ""}
    )
    (folder / "environment/bin/run").chmod(0o755)
    async with begin(TerminalSettings(folder=task_folder.root)) as episode:
        assert (await episode.run("bin/run")).observation == "ran"
        assert (await episode.run("./readme")).observation.endswith("exit 126")


# What the agent may try


async def test_the_tests_are_not_there_while_the_agent_works(begin_folder):
    async with begin_folder() as episode:
        found = await episode.run(
            "find / \\( -name test.sh -o -name solve.sh -o -name marker \\) 2>/dev/null | grep -v ^/proc"
        )
        assert found.observation == "exit 1"


async def test_what_runs_in_the_background_is_dead_when_the_tests_come(begin_folder):
    forge = "while true; do for f in /tmp/verifier-*; do echo 1 > $f/logs/verifier/reward.json; done; done"
    script = f"#!/bin/sh\nsleep 0.3\nls /tmp/alive\necho 0 > {TXT}\n"
    async with begin_folder(test=script) as episode:
        await episode.run(f"setsid bash -c {shlex.quote(forge)} >/dev/null 2>&1 &")
        spawned = await episode.sandbox.spawn(forge)
        verdict = await episode.verify()
        assert await spawned.poll() is not None
    assert (verdict.success, verdict.details["given"]) == (False, 0.0)


async def test_what_the_agent_puts_in_the_tests_places_is_of_no_use(begin_folder):
    before = [
        "d=/tmp/verifier-0; mkdir -p $d/tests $d/logs/verifier; echo 1 > $d/logs/verifier/reward.txt",
        "mkdir -p tests logs/verifier; echo 1 > logs/verifier/reward.txt; echo 'exit 0' > tests/test.sh",
    ]
    assert not (await verdict_of(begin_folder, "#!/bin/sh\nexit 1\n", before=before)).success


SPOOFS = {
    "a program on the path": "mkdir b; echo 'exit 0' > b/grep; chmod +x b/grep; export PATH=$PWD/b:$PATH",
    "a function": "grep() { true; }; export -f grep",
    "start-up files": "echo 'grep() { true; }' > ~/.bashrc; cp ~/.bashrc ~/.profile; cp ~/.bashrc ~/.bash_profile",
    "BASH_ENV": "echo 'grep() { true; }' > r; export BASH_ENV=$PWD/r ENV=$PWD/r",
    "an alias": "alias grep=true; shopt -s expand_aliases",
}


@pytest.mark.parametrize("name", SPOOFS)
async def test_the_shells_state_does_not_reach_the_tests(begin_folder, name):
    script = "#!/bin/bash\ngrep -q never readme\n"
    assert not (await verdict_of(begin_folder, script, before=[SPOOFS[name]])).success


async def test_a_full_disk_is_a_failure_not_an_error(begin_folder):
    async with begin_folder(
        {"resources": {"disk_bytes": 8 << 20}}, tests={"test.sh": "exit 0\n", "big": "x" * 100_000}
    ) as episode:
        await episode.run(
            "head -c 100M /dev/zero > junk; for n in $(seq 9999); do : > f$n || break; done; cat junk >> more"
        )
        verdict = await episode.verify()
        assert (verdict.success, bool(verdict.details["problem"])) == (False, True)


@pytest.fixture
def image(tmp_path):
    """A root file system of one program, in which the sandbox's user may write everywhere."""
    root = tmp_path / "image"
    (root / "bin").mkdir(parents=True)
    for folder in ("tmp", "etc", "app"):
        (root / folder).mkdir()
    busybox = subprocess.run(["which", "busybox"], capture_output=True, text=True, check=True).stdout.strip()
    (root / "bin/busybox").write_bytes(Path(busybox).read_bytes())
    (root / "bin/busybox").chmod(0o755)
    for name in ("sh", "cat", "mkdir", "rm", "ln", "ls", "readlink", "echo", "sleep"):
        (root / "bin" / name).symlink_to("busybox")
    return root


async def test_in_an_image_the_tests_lie_where_they_say_whatever_lay_there(begin_folder, image):
    script = f"#!/bin/sh\nls /tests /tests/data; [ -f /tmp/done ]; echo $((1 - $?)) > {TXT}\n"
    async with begin_folder(
        {"images": {"greet": str(image)}}, test=script, environment={"Dockerfile": "FROM x"}
    ) as episode:
        forged = (
            "mkdir -p /stolen/data /logs/verifier; ln -s /stolen /tests; echo 1 > /logs/verifier/reward.json; ls /tests"
        )
        assert (await episode.sandbox.exec(forged)).stdout == b"data\n"
        verdict = await episode.verify()
        assert verdict.details["given"] == 0.0
        assert verdict.details["test_output"] == "/tests:\ndata\ntest.sh\n\n/tests/data:\nmarker\n"
        assert (await episode.sandbox.exec("ls /stolen/data; [ -L /tests ]")).exit_code == 1


async def test_an_image_without_the_tests_interpreter_is_refused_before_the_agent_works(begin_folder, image):
    with pytest.raises(CapabilityError, match="need /bin/bash"):
        async with begin_folder({"images": {"*": str(image)}}):
            pass


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (b"#!/bin/bash\n", ["/bin/bash"]),
        (b"#! /bin/sh -e\n", ["/bin/sh", "-e"]),
        (b"#!/usr/bin/env -S python3 -u\n", ["/usr/bin/env", "-S python3 -u"]),
        (b"#!\n", ["/bin/sh"]),
        (b"echo 1\n", ["/bin/sh"]),
        (b"\xff", ["/bin/sh"]),
    ],
)
def test_the_interpreter_is_that_of_the_first_line(first, words):
    assert interpreter_of(TaskFile(content=first)) == words


@pytest.mark.parametrize(
    ("content", "moved"),
    [
        (b"cat /tests/a > /logs/verifier/b", b"cat /X/tests/a > /X/logs/verifier/b"),
        (b'Path("/tests") / "a"', b'Path("/X/tests") / "a"'),
        (b"cd /tests", b"cd /X/tests"),
        (b"/app/tests $D/tests ${D}/tests $(pwd)/tests ./tests ../tests", None),
        (b"/tests-old /testsuite /tests.txt /logs/verifier2 /logs", None),
        (b"/tests\0", None),
    ],
)
def test_only_whole_names_of_the_places_are_replaced(content, moved):
    assert Places(base="/X").inward(content) == (content if moved is None else moved)
    assert Places().inward(content) == content


# Failures of the sandbox


class Failing:
    """A sandbox that fails at every command."""

    tier = "namespace"

    def __init__(self, error):
        self.error = error

    async def exec(self, command, **options):
        raise self.error


TASK = TerminalTask(name="x", files={}, tests={"test.sh": TaskFile(content=b"")}, workdir="/app")


@pytest.mark.parametrize("error", [SandboxDied("gone"), SandboxUnavailable("no answer"), TimeoutError("hung")])
async def test_a_sandbox_that_fails_is_no_verdict(error):
    with pytest.raises(type(error)):
        await judge(Failing(error), TASK, TerminalSettings(), network=None)


class Bare:
    """A sandbox whose working folder is gone."""

    tier = "namespace"

    async def exec(self, command, *, cwd, **options):
        if cwd != "/":
            raise FileNotFoundError(cwd)
        return ExecResult(exit_code=0, stdout=b"", stderr=b"", duration=0.0)

    async def write(self, path, content, *, mode):
        pass


async def test_the_working_folders_loss_is_a_failure():
    verdict = await judge(Bare(), TASK, TerminalSettings(), network=None)
    assert not verdict.success
    assert verdict.details["problem"] == "the working folder /app is gone"


class Recording:
    """A sandbox that keeps what it is told to run."""

    def __init__(self, tier):
        self.tier = tier
        self.commands = []

    async def exec(self, command, **options):
        self.commands.append(command)
        return ExecResult(exit_code=0, stdout=b"", stderr=b"", duration=0.0)


async def killing_script():
    sandbox = Recording("namespace")
    await end_processes(sandbox)
    ((shell, option, script, *arguments),) = sandbox.commands
    assert "kill -9 -1" in script
    return [shell, option, f"kill() {{ echo killed; }}\n{script}", *arguments]


async def test_nothing_is_killed_outside_of_a_sandboxs_own_namespace():
    process = await asyncio.create_subprocess_exec(*await killing_script(), stdout=asyncio.subprocess.PIPE)
    assert await process.communicate() == (b"", None)


async def test_everything_is_killed_in_a_sandboxs_own_namespace(backend):
    sandbox = await backend.create(SandboxSpec())
    assert (await sandbox.exec(await killing_script())).stdout == b"killed\n"


async def test_root_kills_nothing_as_that_would_end_what_keeps_a_container_alive(backend):
    sandbox = await backend.create(SandboxSpec(user="root"))
    assert (await sandbox.exec("id -u")).stdout == b"0\n"
    assert (await sandbox.exec(await killing_script())).stdout == b""


async def test_nothing_is_killed_where_there_is_no_isolation():
    sandbox = Recording("process")
    await end_processes(sandbox)
    assert sandbox.commands == []


async def test_another_network_for_the_tests_is_refused_before_the_agent_works(task_folder):
    task_folder(configuration='[metadata]\nsplit = "train"\n')
    settings = TerminalSettings(folder=task_folder.root, verifier_network={"mode": "public"})
    environment = TerminalEnvironment(settings)
    (task,) = await environment.tasks("train", count=1, seed=0)
    sandbox = await MemorySandboxBackend({"/bin/sh": lambda *_: (0, b"")}).create(environment.sandbox_spec(task))
    with pytest.raises(CapabilityError, match="another network"):
        await environment.reset(task, seed=0, sandbox=sandbox)


async def test_the_tests_may_have_another_network(begin_folder):
    question = "getent hosts example.org"
    settings = {"verifier_network": {"mode": "allowlist", "hosts": ("example.org",)}}
    async with begin_folder(settings, test=f"#!/bin/sh\n{question}\n") as episode:
        assert (await episode.run(question)).errored
        assert (await episode.verify()).success


async def test_a_verdict_without_an_episode_is_refused():
    with pytest.raises(TypeError, match="before reset"):
        await TerminalEnvironment(TerminalSettings()).verify()
