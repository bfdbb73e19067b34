"""Tasks drawn from a seed: that experts solve them, that nothing less does, and which split they are in."""

import json
from dataclasses import replace
from random import Random

import pytest

from tumbler.contracts.environment import Task
from tumbler.errors import ContractError, RunError
from tumbler_envs.terminal.environment import TerminalEnvironment
from tumbler_envs.terminal.generated.edits import draw_edit
from tumbler_envs.terminal.generated.layout import Edits
from tumbler_envs.terminal.generated.source import GeneratedTasks, draw_edits
from tumbler_envs.terminal.settings import GeneratedSettings, TerminalSettings

KINDS = GeneratedSettings().kinds


def generated(**fields):
    return TerminalSettings(generate=GeneratedSettings(**fields))


@pytest.mark.parametrize("kind", KINDS)
async def test_the_expert_solves_every_kind(begin, kind):
    settings = generated(kinds=(kind,))
    for task in GeneratedTasks(settings).tasks("train", count=6, seed=7):
        async with begin(settings, task=task) as episode:
            results = await episode.follow_expert()
            verdict = await episode.verify()
            assert verdict.success, (task.instruction, [result.observation for result in results], verdict)
            assert verdict.reward == 1.0


@pytest.mark.parametrize("kind", KINDS)
async def test_doing_nothing_solves_no_kind(begin, kind):
    async with begin(generated(kinds=(kind,))) as episode:
        verdict = await episode.verify()
        assert not verdict.success
        assert "not as asked for" in verdict.details["test_output"]


async def test_all_edits_but_one_are_not_enough(begin):
    settings = generated(edits=3, kinds=("append-line", "count-lines"))
    async with begin(settings) as episode:
        commands = Edits.from_task(episode.task).commands
        for command in commands[:-1]:
            await episode.run(command)
        assert not (await episode.verify()).success
    async with begin(settings, task=episode.task) as again:
        for command in commands:
            await again.run(command)
        assert (await again.verify()).success


@pytest.mark.parametrize(
    "damage", ["echo x >> {path}", "rm {path}", "mv {path} {path}.old", "ln -sf /etc/passwd {path}"]
)
async def test_what_was_not_to_be_touched_counts(begin, damage):
    async with begin(generated(distractors=1)) as episode:
        await episode.follow_expert()
        path = next(path for path in Edits.from_task(episode.task).files if "/" not in path)
        await episode.run(damage.format(path=path))
        assert not (await episode.verify()).success


async def test_a_missing_line_end_is_forgiven(begin):
    async with begin(generated(kinds=("count-lines",))) as episode:
        (command,) = Edits.from_task(episode.task).commands
        await episode.run(f"{command}; printf %s $(cat */count) > count.new; mv count.new */count")
        assert (await episode.verify()).success


async def test_files_left_where_they_were_are_not_moved(begin):
    async with begin(generated(kinds=("move-files",))) as episode:
        (command,) = Edits.from_task(episode.task).commands
        await episode.run(command.replace("&& mv", "&& cp"))
        verdict = await episode.verify()
        assert not verdict.success
        assert "still there" in verdict.details["test_output"]


def test_fewer_tasks_are_a_prefix_of_more_and_other_seeds_give_others():
    source = GeneratedTasks(TerminalSettings())
    many = source.tasks("train", count=40, seed=0)
    assert source.tasks("train", count=15, seed=0) == many[:15]
    assert len({task.id for task in many}) == 40
    assert not {task.id for task in many} & {task.id for task in source.tasks("train", count=40, seed=1)}


def test_no_task_is_in_both_splits_whatever_the_seeds():
    settings = generated(kinds=("append-line",), distractors=0)
    ids = {
        split: {task.id for seed in range(20) for task in GeneratedTasks(settings).tasks(split, count=30, seed=seed)}
        for split in ("train", "held-out")
    }
    assert min(map(len, ids.values())) > 500
    assert not ids["train"] & ids["held-out"]


def test_a_share_of_nothing_is_an_empty_split():
    settings = TerminalSettings(held_out_share=0.0)
    assert GeneratedTasks(settings).tasks("held-out", count=3, seed=0) == []
    assert len(GeneratedTasks(settings).tasks("train", count=3, seed=0)) == 3


def test_an_unknown_split_is_refused():
    with pytest.raises(RunError, match="no split 'test'; it has train and held-out"):
        GeneratedTasks(TerminalSettings()).tasks("test", count=1, seed=0)


def test_the_number_of_edits_is_drawn_within_its_bounds():
    settings = GeneratedSettings(edits=(2, 4), kinds=("set-value",))
    rng = Random(0)
    assert {len(draw_edits(settings, rng).kinds) for _ in range(50)} == {2, 3, 4}


@pytest.mark.parametrize("kind", KINDS)
def test_an_edit_changes_something_and_stays_in_its_folder(kind):
    rng = Random(3)
    for _ in range(200):
        edit = draw_edit(kind, "ledger", rng)
        assert edit.before != edit.after
        assert all(path.startswith("ledger/") for path in (*edit.before, *edit.after))
        assert all(text.endswith("\n") for text in edit.before.values())


def test_a_task_survives_json_and_a_foreign_one_is_refused():
    source = GeneratedTasks(TerminalSettings())
    (task,) = source.tasks("held-out", count=1, seed=0)
    assert source.load(replace(task, metadata=json.loads(json.dumps(task.metadata)))) == source.load(task)
    for metadata in ({}, {"files": {}}, {**task.metadata, "more": 1}):
        with pytest.raises(ContractError, match="no generated task"):
            source.load(Task(id="x", instruction="", metadata=metadata))


async def test_neither_the_answer_nor_the_test_is_in_the_sandbox_before_the_verdict(begin):
    async with begin(generated(kinds=("count-lines",))) as episode:
        edits = Edits.from_task(episode.task)
        assert set((await episode.run("find . -type f | sed 's|./||'")).observation.split()) == set(edits.files)
        found = await episode.run(
            "find / -name '*verifier*' -o -name 'test.sh' -o -name wanted 2>/dev/null | grep -v /usr/"
        )
        assert found.observation == "exit 1"
        assert (await episode.run("env | grep -iE 'reward|test|wanted'")).observation == "exit 1"


async def test_every_task_is_shown_with_its_instruction_alone():
    environment = TerminalEnvironment(TerminalSettings())
    (task,) = await environment.tasks("train", count=1, seed=0)
    assert set(environment.sandbox_spec(task).files) == {f"/app/{path}" for path in Edits.from_task(task).files}
