"""The twin against the real shell, step by step."""

from random import Random

import pytest

from tumbler_envs.trail.generation import generate_tasks
from tumbler_envs.trail.layout import Trail, pack
from tumbler_envs.trail.settings import TrailSettings
from tumbler_envs.trail.words import LABELS, NAMES

WALKED = TrailSettings(steps=(1, 6), branching=3, distractors=6, noise=0.3)
MOST_UNSUPPORTED = 0.3


def same(real, twin):
    return (real.observation, real.errored, real.terminated) == (twin.observation, twin.errored, twin.terminated)


class Gibberish:
    """Draws command lines from a grammar around what an agent of this task might type."""

    def __init__(self, task, rng):
        trail = Trail.from_task(task)
        self.rng = rng
        members = [packed.member for packed in trail.archives.values()]
        self.files = [*trail.files, *trail.archives, *members, trail.output]
        self.label = trail.label
        self.archives = [*trail.archives, *trail.files]

    def path(self):
        rng = self.rng
        name = rng.choice(self.files) if rng.random() < 0.75 else f"{rng.choice(NAMES)}"
        form = rng.choice(["{}"] * 8 + ["./{}", "/work/{}", "'{}'", '"{}"', ".", "/work", "./", "{}x"])
        return form.format(name)

    def operand(self):
        rng = self.rng
        return str(rng.randrange(100)) if rng.random() < 0.9 else rng.choice([*LABELS, "value:", "-7", "plus", "0"])

    def simple(self):
        rng = self.rng
        operators = ["+"] * 4 + ["-"] * 4 + ["plus", "minus", "-5", ""]
        draws = {
            "cat": lambda: " ".join(["cat", *(self.path() for _ in range(rng.choice([1, 1, 1, 2, 3, 0])))]),
            "grep": lambda: f"grep {rng.choice([self.label, *LABELS, 'value'])} {self.path()}",
            "ls": lambda: f"ls {self.path()}" if rng.random() < 0.4 else "ls",
            "tar": lambda: f"tar {rng.choice(['xvf', '-xvf', 'xf', 'tf'])} {rng.choice([*self.archives, self.path()])}",
            "expr": lambda: f"expr {self.operand()} {rng.choice(operators)} {self.operand()}",
            "chain": lambda: (
                f"expr {self.operand()} + {self.operand()} - {self.operand()} {rng.choice(['', '+', '3'])}"
            ),
            "echo": lambda: f"echo {self.operand()} {rng.choice(['>', '>>'])} {self.path()}",
            "say": lambda: f"echo {self.operand()} '{self.path().strip(chr(39))}' \"a  b\"",
            "cd": lambda: f"cd {self.path()}",
            "pwd": lambda: "pwd",
            "unknown": lambda: rng.choice([self.operand(), rng.choice(NAMES), rng.choice(self.files)]) + " 3",
            "redirected": lambda: f"{rng.choice(['cat', 'ls', 'grep a'])} {self.path()} > {rng.choice(NAMES)}",
        }
        return draws[rng.choice(sorted(draws))]()

    def line(self):
        line = self.simple()
        while self.rng.random() < 0.2:
            line += self.rng.choice([" && ", " || ", "; ", ";"]) + self.simple()
        words = line.split(" ")
        if self.rng.random() < 0.2:
            index = self.rng.randrange(len(words))
            words[index : index + 1] = self.rng.choice([[], [words[index]] * 2, [self.rng.choice(words)]])
        return " ".join(words) or "ls"


async def walk_both(real, twin, commands):
    """Run the commands in both; skip those that the twin declines. Return how many it declined, and all."""
    declined = total = 0
    for command in commands:
        expected = await twin.run(command)
        total += 1
        if expected.info.get("unsupported"):
            declined += 1
            continue
        actual = await real.run(command)
        assert same(actual, expected), command
        if expected.terminated:
            break
    return declined, total


@pytest.mark.parametrize("noise", [0.0, 0.4])
async def test_the_twin_answers_an_expert_as_bash_does(open_sandbox, episode, few, noise):
    settings = WALKED.model_copy(update={"noise": noise})
    for task in generate_tasks(settings, "train", count=few(50), seed=3):
        async with (
            episode(task, settings) as twin,
            episode(task, settings, open_sandbox=open_sandbox) as real,
        ):
            for action, expected in await twin.play(seed=1):
                actual = await real.environment.step(action.call)
                assert same(actual, expected), action
            assert await real.environment.verify() == await twin.environment.verify()


async def test_the_twin_answers_gibberish_as_bash_does_or_declines(open_sandbox, episode, few):
    declined = total = 0
    for index, task in enumerate(generate_tasks(WALKED, "train", count=few(100), seed=4)):
        gibberish = Gibberish(task, Random(index))
        async with episode(task) as twin, episode(task, open_sandbox=open_sandbox) as real:
            counts = await walk_both(real, twin, [gibberish.line() for _ in range(30)])
            assert (await real.environment.verify()).success == (await twin.environment.verify()).success
        declined, total = declined + counts[0], total + counts[1]
    assert total == 30 * few(100)
    assert declined / total < MOST_UNSUPPORTED


async def test_both_shells_end_at_exit(open_sandbox, episode):
    (task,) = generate_tasks(WALKED, "train", count=1, seed=5)
    async with episode(task) as twin, episode(task, open_sandbox=open_sandbox) as real:
        for command in ("exit 3", "ls"):
            expected, actual = await twin.run(command), await real.run(command)
            assert expected.observation == "(the shell has ended)"
            assert expected.terminated
            assert expected.errored
            assert same(actual, expected)


@pytest.mark.parametrize(
    "command",
    [
        "cat *",
        "cat $HOME",
        "cat `ls`",
        "ls | cat",
        "cat < amber",
        "ls 2> birch",
        "ls &",
        "a=5",
        "a=5 ls",
        ". amber",
        "ls -l",
        "cat -n amber",
        "grep -c value start",
        "grep v.lue start",
        "grep value start answer",
        "head start",
        "if true",
        "cat 'amber",
        "ls &&",
        "; ls",
        "ls;; ls",
        "echo -n 5",
        "cat ../amber",
        "cat /etc/passwd",
        "cat ~",
        "(ls)",
        "ls # all",
        "ls\ncat amber",
        "echo {1,2}",
        "echo é",
        "tar xvf a:b",
        "expr 3 '*' 4",
        "expr 007 + 1",
        "cat amber > amber",
    ],
)
async def test_what_lies_outside_its_language_the_twin_declines_honestly(episode, command):
    (task,) = generate_tasks(WALKED, "train", count=1, seed=6)
    async with episode(task) as twin:
        result = await twin.run(command)
        assert result.observation == "(not supported by this shell)"
        assert result.info == {"unsupported": True}
        assert result.errored


async def test_a_declined_line_changes_nothing(episode):
    (task,) = generate_tasks(WALKED, "train", count=1, seed=7)
    async with episode(task) as twin:
        before = await twin.run("ls")
        await twin.run("echo 5 > harbor; head start")
        assert await twin.run("ls") == before


def test_packing_the_same_file_gives_the_same_bytes():
    trail = Trail.from_task(generate_tasks(TrailSettings(kinds=("archive",)), "train", count=1, seed=0)[0])
    assert all(pack(packed) == pack(packed) for packed in trail.archives.values())
    assert len({pack(packed) for packed in trail.archives.values()}) == len(trail.archives)
