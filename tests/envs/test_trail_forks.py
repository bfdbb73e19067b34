"""Forks: one step at which the choice of a key decides, nothing shows it, and the demonstrations do not tell."""

from collections import Counter
from random import Random

import pytest
from pydantic import ValidationError

from tumbler_envs.trail.environment import TrailEnvironment
from tumbler_envs.trail.generation import SPLITS, draw_trail, generate_tasks
from tumbler_envs.trail.layout import Trail
from tumbler_envs.trail.settings import TrailSettings
from tumbler_envs.trail.words import CHOOSE, KEYS, VALUE

SHUT = TrailSettings(steps=(2, 4), distractors=3, branching=2, fork={"at": 2, "width": 16})


def opened(settings, share=0.0):
    fork = settings.fork.model_copy(update={"open": True, "share": share})
    return settings.model_copy(update={"fork": fork})


def tasks(settings, count, seed=0):
    return generate_tasks(settings, "train", count=count, seed=seed)


def commands(turns):
    return [action.call.arguments["command"] for action, _ in turns]


async def walk_with(episode, task, settings, key, **options):
    """Let the expert take a key; return what it did and the verdict."""
    async with episode(task, settings, **options) as walk:
        expert = walk.environment.expert(task, seed=0)
        expert._key = key
        turns, action = [], expert.act("")
        while action is not None:
            result = await walk.environment.step(action.call)
            turns.append((action, result))
            action = expert.act(result.observation)
        return turns, await walk.environment.verify()


@pytest.mark.parametrize("at", [1, 2, 3, 4])
@pytest.mark.parametrize("steps", [4, (4, 6)])
async def test_the_expert_solves_a_fork_anywhere(episode, at, steps):
    settings = TrailSettings(steps=steps, distractors=3, fork={"at": at, "width": 8, "keys": 8})
    for task in tasks(settings, 25):
        async with episode(task, settings) as walk:
            turns = await walk.play()
            assert (await walk.environment.verify()).success
        chunk = task.metadata["crucial_chunk"]
        assert f" {CHOOSE} " in turns[chunk - 1][1].observation
        assert commands(turns)[chunk].split(" ")[:2] == ["grep", Trail.from_task(task).key]


async def test_every_other_key_leads_to_a_wrong_value_and_nothing_shows_it(episode):
    for task in tasks(SHUT, 12):
        trail = Trail.from_task(task)
        right, verdict = await walk_with(episode, task, SHUT, trail.key)
        assert verdict.success
        for key in KEYS[:16]:
            turns, verdict = await walk_with(episode, task, SHUT, key)
            assert verdict.success == (key == trail.key)
            assert verdict.details["found"] == "file"
            assert not any(result.errored for _, result in turns)
            assert [each.split(" ")[0] for each in commands(turns)] == [each.split(" ")[0] for each in commands(right)]


async def test_in_a_sandbox_a_fork_is_as_in_the_twin(open_sandbox, episode):
    (task,) = tasks(SHUT, 1)
    for key in (Trail.from_task(task).key, KEYS[5]):
        twin, expected = await walk_with(episode, task, SHUT, key)
        real, verdict = await walk_with(episode, task, SHUT, key, open_sandbox=open_sandbox)
        assert commands(real) == commands(twin)
        assert [each.observation for _, each in real] == [each.observation for _, each in twin]
        assert verdict == expected


def test_the_file_at_the_fork_does_not_show_which_way_is_right():
    for task in tasks(SHUT, 50):
        trail = Trail.from_task(task)
        (ways,) = [text for text in trail.files.values() if set(text.split()) >= set(KEYS[:16])]
        targets = dict(line.split(" ", 1) for line in ways.splitlines())
        counts = Counter(targets.values())
        assert sorted(counts.values()) == [1, 1, 14]
        assert counts[targets[trail.key]] == 1


@pytest.mark.parametrize("keys", [1, 4, 16])
def test_as_many_keys_are_right_as_the_settings_say(keys):
    settings = SHUT.model_copy(update={"fork": SHUT.fork.model_copy(update={"keys": keys})})
    right = Counter(Trail.from_task(task).key for task in tasks(settings, 400))
    assert set(right) == set(KEYS[:keys])
    assert min(right.values()) > 200 / keys


async def test_at_an_open_fork_every_key_leads_on(episode):
    settings = opened(SHUT)
    for task in tasks(settings, 10):
        for key in KEYS[:16]:
            _, verdict = await walk_with(episode, task, settings, key)
            assert verdict.success
        assert task.metadata["crucial_chunk"] is None


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
async def test_at_an_open_fork_the_expert_takes_the_right_key_as_often_as_the_share_says(episode, share):
    settings = opened(SHUT, share)
    taken = Counter()
    for task in tasks(settings, 400):
        async with episode(task, settings) as walk:
            turns = await walk.play()
            assert (await walk.environment.verify()).success
        (place,) = [index for index, (_, result) in enumerate(turns) if f" {CHOOSE} " in result.observation]
        taken[commands(turns)[place + 1].split(" ")[1]] += 1
    right = taken.pop(KEYS[0], 0)
    assert right / 400 == pytest.approx(share, abs=0.07)
    if share < 1:
        assert set(taken) == set(KEYS[1:16])
        assert max(taken.values()) < 3 * min(taken.values())


async def test_noise_does_not_change_the_key(episode):
    noisy = opened(SHUT).model_copy(update={"noise": 0.4})
    for task in tasks(noisy, 40):
        keys = []
        for settings in (opened(SHUT), noisy):
            async with episode(task, settings) as walk:
                greps = [each.split(" ") for each in commands(await walk.play(seed=3)) if each.startswith("grep ")]
                keys.append({words[1] for words in greps if words[1] in KEYS})
        assert keys[0] == keys[1]


def test_the_instruction_names_the_key_alike_in_open_and_shut_forks():
    for settings in (SHUT, opened(SHUT)):
        for task in tasks(settings, 20):
            assert f"Where told to choose, look for {Trail.from_task(task).key}." in task.instruction
            assert len(task.instruction.split()) <= 30
    assert "choose" not in tasks(TrailSettings(), 1)[0].instruction


def test_no_task_with_a_fork_is_both_for_training_and_held_out():
    ids = {split: {task.id for task in generate_tasks(SHUT, split, count=300, seed=1)} for split in SPLITS}
    assert not ids["train"] & ids["held-out"]
    assert min(map(len, ids.values())) == 300


def test_without_a_fork_the_tasks_are_those_they_always_were():
    digests = [draw_trail(TrailSettings(), Random(seed)).digest[:8] for seed in range(3)]
    assert digests == ["d6fa3159", "9739fcc9", "faab524e"]


def test_the_values_behind_a_fork_differ():
    for seed in range(100):
        trail = draw_trail(SHUT, Random(seed))
        ends = [line for text in trail.files.values() for line in text.splitlines() if f" {VALUE} " in line]
        values = [line.split(f" {VALUE} ")[1] for line in ends if line.split(" ")[0] == trail.label]
        assert len(set(values)) == len(values)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"steps": 2, "fork": {"at": 3}}, "the shortest trail has 2 steps"),
        ({"steps": (2, 4), "fork": {"at": 3}}, "the shortest trail has 2 steps"),
        ({"steps": 16, "distractors": 10, "fork": {"at": 2}}, "raise fork.at"),
        ({"steps": 3, "fork": {"at": 1, "width": 4, "keys": 5}}, "has no more keys"),
        ({"steps": 3, "fork": {"at": 1, "width": 1}}, "greater than or equal to 2"),
        ({"steps": 3, "fork": {"at": 1, "width": 65}}, "less than or equal to 64"),
        ({"steps": 3, "fork": {"at": 1, "share": 1.1}}, "less than or equal to 1"),
    ],
)
def test_a_fork_that_cannot_be_is_refused(changes, message):
    with pytest.raises(ValidationError, match=message):
        TrailSettings.model_validate(changes)


@pytest.mark.parametrize("kinds", [("archive",), ("compute",), ("pointer",)])
def test_the_largest_forks_find_names_and_numbers_enough(kinds):
    for changes in ({"steps": 8, "distractors": 16, "at": 1}, {"steps": 16, "distractors": 16, "at": 12}):
        at = changes.pop("at")
        settings = TrailSettings(branching=5, kinds=kinds, fork={"at": at, "width": 64}, **changes)
        for seed in range(20):
            trail = draw_trail(settings, Random(seed))
            assert len(trail.files) + len(trail.archives) > 16


async def test_the_expert_of_the_environment_is_told_of_the_fork():
    environment = TrailEnvironment(opened(SHUT, 1.0))
    (task,) = await environment.tasks("train", count=1, seed=0)
    assert environment.expert(task, seed=0)._key == Trail.from_task(task).key
