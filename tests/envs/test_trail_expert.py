"""The teacher: always right without noise, and always recovering with it."""

import pytest

from tumbler_envs.trail.environment import TrailEnvironment
from tumbler_envs.trail.generation import generate_tasks
from tumbler_envs.trail.layout import Trail
from tumbler_envs.trail.settings import MAX_STEPS, TrailSettings

NOISY = TrailSettings(steps=(1, 8), branching=3, distractors=4, noise=0.3)


def turns_needed(task):
    """Read the start, take each step (an archive or a sum is one turn more), write the answer."""
    kinds = Trail.from_task(task).kinds
    detours = kinds.count("archive") + kinds[:-1].count("compute")
    return 2 + len(kinds) + detours


def commands(turns):
    return [action.call.arguments["command"] for action, _ in turns]


@pytest.mark.parametrize("steps", range(1, MAX_STEPS + 1))
async def test_without_noise_the_expert_succeeds_in_the_turns_needed_in_the_twin(episode, steps):
    settings = TrailSettings(steps=steps, branching=4, distractors=6)
    for task in generate_tasks(settings, "held-out", count=30, seed=steps):
        async with episode(task, settings) as walk:
            assert len(await walk.play()) == turns_needed(task)
            assert (await walk.environment.verify()).success


async def test_without_noise_the_expert_succeeds_in_the_turns_needed_in_a_sandbox(open_sandbox, episode):
    for steps in range(1, MAX_STEPS + 1):
        settings = TrailSettings(steps=steps, branching=4, distractors=6)
        (task,) = generate_tasks(settings, "train", count=1, seed=steps)
        async with episode(task, settings, open_sandbox=open_sandbox) as walk:
            assert len(await walk.play()) == turns_needed(task)
            assert (await walk.environment.verify()).success


@pytest.mark.parametrize("noise", [0.1, 0.5, 0.9])
async def test_with_noise_the_expert_errs_recovers_and_succeeds(episode, noise):
    settings = NOISY.model_copy(update={"noise": noise})
    for task in generate_tasks(settings, "train", count=100, seed=0):
        async with episode(task, settings) as walk:
            turns = await walk.play(seed=5)
            assert len(turns) <= 3 * turns_needed(task)
            assert (await walk.environment.verify()).success


async def test_what_is_relevant_and_did_not_fail_is_the_walk_without_noise(episode):
    clean = NOISY.model_copy(update={"noise": 0.0})
    for task in generate_tasks(NOISY, "train", count=150, seed=1):
        async with episode(task, clean) as walk:
            expected = commands(await walk.play())
        async with episode(task, NOISY) as walk:
            turns = await walk.play(seed=2)
        assert commands(turn for turn in turns if turn[0].relevant and not turn[1].errored) == expected


async def test_both_kinds_of_mistakes_occur_as_often_as_the_noise_says(episode):
    failed = irrelevant = right = 0
    for task in generate_tasks(NOISY, "train", count=300, seed=2):
        async with episode(task, NOISY) as walk:
            for action, result in await walk.play(seed=1):
                irrelevant += not action.relevant
                failed += action.relevant and result.errored
                right += action.relevant and not result.errored
    # A right action is forced after two detours, which leaves n + n² detours for each right one.
    assert (failed + irrelevant) / right == pytest.approx(0.3 + 0.09, abs=0.05)
    assert failed == pytest.approx(irrelevant, rel=0.2)


async def test_equal_seeds_act_equally_and_others_do_not(episode):
    (task,) = generate_tasks(NOISY.model_copy(update={"steps": 8}), "train", count=1, seed=3)
    walks = []
    for seed in (7, 7, 8):
        async with episode(task, NOISY) as walk:
            walks.append(commands(await walk.play(seed=seed)))
    assert walks[0] == walks[1] != walks[2]


def test_an_answer_that_makes_no_sense_is_asked_for_again_and_then_given_up():
    (task,) = generate_tasks(NOISY, "train", count=1, seed=4)
    expert = TrailEnvironment(TrailSettings()).expert(task, seed=0)
    tried = [expert.act(text) for text in ("", "(timed out)", "(timed out)")]
    assert len({action.call.arguments["command"] for action in tried}) == 1
    assert expert.act("(timed out)") is None


async def test_every_turn_is_short(episode):
    settings = TrailSettings(steps=16, branching=5, distractors=16, noise=0.3)
    for task in generate_tasks(settings, "train", count=20, seed=5):
        async with episode(task, settings) as walk:
            for action, result in await walk.play():
                assert len(action.call.arguments["command"].split()) <= 8
                looked = action.call.arguments["command"] == "ls"
                assert looked or len(result.observation.split()) <= 25
