"""The verdict: what counts, what does not, and what cannot fool it."""

import pytest

from tumbler.contracts.sandbox import ExecResult
from tumbler.errors import SandboxError
from tumbler_envs.trail.generation import generate_tasks
from tumbler_envs.trail.layout import Trail
from tumbler_envs.trail.settings import TrailSettings
from tumbler_envs.trail.verification import judge, look


def one_task(seed=0, **settings):
    (task,) = generate_tasks(TrailSettings(**settings), "train", count=1, seed=seed)
    return task, Trail.from_task(task)


REFUSED = {
    "nothing is written": ("true", "missing"),
    "another value": ("echo 7 > {output}", "file"),
    "the answer among others": ("echo {answer} 7 > {output}", "file"),
    "the answer twice": ("echo {answer} > {output}; echo {answer} >> {output}", "file"),
    "an empty file": (": > {output}", "file"),
    "a link to the answer": ("echo {answer} > right; ln -s right {output}", "link"),
    "a link to nothing": ("ln -s nowhere {output}", "link"),
    "a folder": ("mkdir {output}", "special"),
    "a pipe": ("mkfifo {output}", "special"),
    "the answer and a NUL": ("printf '{answer}\\0' > {output}", "long"),
    "a long file": ("printf '%01000d' {answer} > {output}", "long"),
    "an unreadable file": ("echo 7 > {output}; chmod 000 {output}", "file"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_wrong_deed_is_refused(open_sandbox, episode, name):
    task, trail = one_task()
    command, found = REFUSED[name]
    async with episode(task, open_sandbox=open_sandbox) as walk:
        await walk.run(command.format(output=trail.output, answer=trail.answer))
        verdict = await walk.environment.verify()
        assert (verdict.success, verdict.reward, verdict.details["found"]) == (False, 0.0, found)


ACCEPTED = {
    "plainly": "echo {answer} > {output}",
    "without a line end": "printf {answer} > {output}",
    "at the second try": "echo 7 > {output}; echo {answer} > {output}",
    "by its path": "echo {answer} > /work/{output}",
    "from another folder": "cd /tmp; echo {answer} > /work/{output}",
}


@pytest.mark.parametrize("name", ACCEPTED)
async def test_the_answer_counts_however_it_was_written(open_sandbox, episode, name):
    task, trail = one_task()
    async with episode(task, open_sandbox=open_sandbox) as walk:
        await walk.run(ACCEPTED[name].format(output=trail.output, answer=trail.answer))
        verdict = await walk.environment.verify()
        assert (verdict.success, verdict.reward) == (True, 1.0)


FALSE_SCRIPT = "echo file; echo {answer}"
SPOOFS = {
    "a program on the path": (
        "mkdir b; for p in cat bash sh printf test; do echo '"
        + FALSE_SCRIPT
        + "' > b/$p; done; chmod +x b/*; PATH=/work/b"
    ),
    "an alias": "alias cat='echo {answer}'; alias printf='echo {answer}'",
    "exported functions": "cat() {{ echo file; echo {answer}; }}; test() {{ true; }}; export -f cat test",
    "a start-up file": (
        "echo '" + FALSE_SCRIPT + "' > r; export BASH_ENV=/work/r ENV=/work/r; cp r ~/.bashrc; cp r ~/.profile"
    ),
    "a file that is named like the answer": "mkdir -p {output}/{answer}; touch {answer}",
}


@pytest.mark.parametrize("name", SPOOFS)
async def test_the_judge_is_not_fooled_by(open_sandbox, episode, name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    task, trail = one_task()
    command = SPOOFS[name].format(output=trail.output, answer=trail.answer)
    async with episode(task, open_sandbox=open_sandbox) as walk:
        await walk.run(f"echo 7 > {trail.output}" if "mkdir -p" not in command else "true")
        await walk.run(command)
        assert not (await walk.environment.verify()).success


async def test_the_judge_heeds_no_function_and_no_start_up_file_of_its_environment(open_folder, episode, tmp_path):
    task, trail = one_task()
    script = tmp_path / "start"
    script.write_text(f"text={trail.answer}; read() {{ false; }}; printf() {{ echo file; echo {trail.answer}; exit; }}")
    forged = f"() {{ echo file; echo {trail.answer}; exit; }}"
    async with episode(task, open_sandbox=open_folder) as walk:
        walk.sandbox.environment |= {"BASH_ENV": str(script), "BASH_FUNC_builtin%%": forged, "BASH_FUNC_cd%%": forged}
        assert (await walk.environment.verify()).details["found"] == "missing"


async def test_a_folder_put_in_the_place_of_the_work_folder_is_seen(open_folder, episode):
    task, trail = one_task()
    async with episode(task, open_sandbox=open_folder) as walk:
        await walk.run(f"echo {trail.answer} > {trail.output}; cd ..; mv inside other; ln -s other inside")
        assert (await walk.environment.verify()).details["found"] == "moved"


async def test_what_the_agent_left_running_is_dead_when_the_judge_looks(open_folder, episode):
    task, _ = one_task()
    async with episode(task, open_sandbox=open_folder) as walk:
        await walk.run("sleep 60 & echo $! > pid")
        await walk.environment.verify()
        (session,) = walk.sandbox.sessions
        assert session.process is None


async def test_neither_answer_nor_script_are_in_the_sandbox_before_the_verdict(open_sandbox, episode):
    task, trail = one_task(kinds=("compute",), steps=3)
    async with episode(task, TrailSettings(observation_limit=20_000), open_sandbox=open_sandbox) as walk:
        assert (await walk.run("ls -A")).observation.split() == sorted(trail.contents)
        for command in (
            f"grep -rw 'value {trail.answer}' .",
            f"grep -rlE 'verify|expected|{task.id}' .",
            f"env | grep -E '{task.id}|={trail.answer}$'",
        ):
            result = await walk.run(command)
            assert result.observation == "exit 1", command


async def test_the_judge_never_tells_the_sandbox_the_answer(open_folder, episode):
    calls = set()
    for seed in range(5):
        task, trail = one_task(seed)
        async with episode(task, open_sandbox=open_folder) as walk:
            await walk.environment.verify()
            (call,) = walk.sandbox.executed
            assert call[-1] == trail.output
            calls.add(call[:-1])
    assert len(calls) == 1


class Answering:
    """A sandbox that answers each command with one result."""

    def __init__(self, **fields):
        self.result = ExecResult(**{"exit_code": 0, "stdout": b"", "stderr": b"", "duration": 0.0, **fields})

    async def exec(self, command, **options):
        return self.result


@pytest.mark.parametrize("exit_code", [126, 127])
async def test_a_sandbox_without_bash_is_the_fault_of_the_infrastructure(exit_code):
    with pytest.raises(SandboxError, match="/bin/bash does not run") as caught:
        await look(Answering(exit_code=exit_code), "birch")
    assert caught.value.infra


@pytest.mark.parametrize(
    ("fields", "kind"), [({"timed_out": True, "exit_code": 124}, "timeout"), ({"exit_code": 137}, "failed")]
)
async def test_a_judge_that_the_agent_stopped_gives_no_reward(fields, kind):
    _, trail = one_task()
    found = await look(Answering(stdout=f"file\n{trail.answer}".encode(), **fields), trail.output)
    assert found.kind == kind
    assert not judge(found, trail, TrailSettings()).success


async def test_the_rewards_are_those_of_the_settings(episode):
    task, trail = one_task()
    settings = TrailSettings(success_reward=2.0, failure_reward=-0.5)
    async with episode(task, settings) as walk:
        await walk.run(f"echo {trail.answer} > {trail.output}")
        assert (await walk.environment.verify()).reward == 2.0
    async with episode(task, settings) as walk:
        assert (await walk.environment.verify()).reward == -0.5
