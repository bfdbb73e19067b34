"""Initialised resampling in a world without a model: one chunk of eight is hard, and doing it right teaches it."""

import json
import math
from random import Random

import pytest

from tumbler.contracts.algorithm import Group, PlanState
from tumbler.contracts.environment import Task
from tumbler_algorithms.ipa.algorithm import IPA
from tumbler_algorithms.ipa.settings import IPASettings

CHUNKS, HARD = 8, 3
EASY_SUCCESS, HARD_SUCCESS = 0.55, 0.04
TASKS, STEPS = 2, 150
LEARNT_FROM_SUCCESS = 0.05

SEEDS = range(5)
ROLLBACK = {"mode": "rollback", "share": 1.0, "per_task": 2, "group_size": 8, "rollouts": 16, "dip": 0.6}
PARALLEL = {"mode": "parallel", "share": 0.5, "per_task": 3, "group_size": 8, "rollouts": 16, "memory": 64, "dip": 0.6}
NAIVE = {"mode": "none"}


class World:
    """Tasks of eight chunks, and a policy that does chunk k with probability sigmoid(skill_k).

    A successful rollout raises the skill of each chunk that the policy sampled in it, as a gradient on
    successes does; a failure changes nothing.
    """

    def __init__(self, batches, seed, *, learning=LEARNT_FROM_SUCCESS, **anchors):
        self.learning = learning
        self.algorithm = IPA(IPASettings(tasks_per_step=TASKS, group_size=16, anchors=anchors))
        self.random = Random(seed)
        self.skills = [self._logit(HARD_SUCCESS if k == HARD else EASY_SUCCESS) for k in range(CHUNKS)]
        self.tasks = [Task(id=f"task-{index}", instruction="do") for index in range(TASKS)]
        self.expert = batches.trajectory(turns=(0.0,) * CHUNKS, replayed=CHUNKS)
        self.batches = batches
        self.metrics = {}
        self.rollouts = {task.id: 0 for task in self.tasks}
        self.anchored = dict(self.rollouts)

    @staticmethod
    def _logit(probability):
        return math.log(probability / (1 - probability))

    def success(self, start=0):
        """The policy's chance to succeed from an anchor."""
        return math.prod(1 / (1 + math.exp(-skill)) for skill in self.skills[start:])

    def step(self, number):
        state = PlanState(step=number, seed=number, experts=lambda _: self.expert)
        groups = [self._group(planned) for planned in self.algorithm.plan(self.tasks, state).groups]
        self.metrics = self.algorithm.observe(groups)
        for group in groups:
            solved = sum(each.success for each in group.trajectories)
            for chunk in range(group.anchor.chunk if group.anchor else 0, CHUNKS):
                self.skills[chunk] += self.learning * solved

    def _group(self, planned):
        start = planned.anchor.chunk if planned.anchor else 0
        self.rollouts[planned.task.id] += planned.size
        self.anchored[planned.task.id] += planned.size if planned.anchor else 0
        chance = self.success(start)
        rewards = [float(self.random.random() < chance) for _ in range(planned.size)]
        trajectories = tuple(
            self.batches.trajectory(reward, turns=(0.0,) * CHUNKS, replayed=start) for reward in rewards
        )
        return Group(id="group", task_id=planned.task.id, trajectories=trajectories, anchor=planned.anchor)

    def run(self, steps=STEPS):
        for number in range(steps):
            self.step(number)
        return self

    def crucial(self):
        return self.algorithm.state()["crucial"]


@pytest.mark.parametrize("seed", SEEDS)
def test_sampling_from_the_start_alone_learns_nothing(batches, seed):
    world = World(batches, seed, **NAIVE).run()
    assert world.success() < 0.05
    assert world.crucial() == {}


@pytest.mark.parametrize("scope", ["task", "global"])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_rollback_finds_the_hard_chunk_and_masters_the_task(batches, seed, scope):
    world = World(batches, seed, **ROLLBACK, scope=scope).run()
    assert world.success() > 0.5
    found = world.crucial()
    assert set(found) == ({"*"} if scope == "global" else {task.id for task in world.tasks})
    for drops in found.values():
        worst = max(drops, key=lambda each: each["after"] - each["before"])
        assert worst["left"] == CHUNKS - HARD
        assert worst["chunk"] == (None if scope == "global" else HARD)
        assert worst["before"] < 0.3 < 0.75 <= worst["after"]
        assert len(drops) <= 2


@pytest.mark.parametrize("choice", ["random", "success-frontier"])
@pytest.mark.parametrize("seed", SEEDS)
def test_parallel_anchors_find_the_hard_chunk_and_master_the_task(batches, seed, choice):
    world = World(batches, seed, **PARALLEL, choice=choice).run()
    assert world.success() > 0.5
    found = world.crucial()["*"]
    assert CHUNKS - HARD in {each["left"] for each in found}
    assert len(found) <= 2


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rollback_comes_to_the_start_and_then_plans_whole_episodes(batches, seed):
    world = World(batches, seed, **ROLLBACK, scope="task").run()
    groups = world.algorithm.plan(world.tasks, PlanState(step=0, seed=0, experts=lambda _: world.expert)).groups
    assert [(group.anchor, group.size) for group in groups] == [(None, 16)] * TASKS
    assert world.metrics["ipa/rollback_left"] == CHUNKS
    assert "ipa/anchor_depth" not in world.metrics


@pytest.mark.parametrize("hard", [-20.0, -1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_patience_and_sweeps_bound_the_rollouts_at_anchors_although_nothing_is_learnt(batches, seed, hard):
    patience, sweeps = 32, 2
    world = World(
        batches, seed, **ROLLBACK, scope="task", patience=patience, sweeps=sweeps, retry_share=0.0, learning=0.0
    )
    world.skills = [hard] * CHUNKS
    world.run(steps=60)
    assert all(0 < used <= sweeps * (CHUNKS - 1) * patience for used in world.anchored.values())
    assert world.metrics["ipa/rollback_left"] == CHUNKS
    assert set(world.rollouts.values()) == {60 * 16}


@pytest.mark.parametrize("scope", ["task", "global"])
@pytest.mark.parametrize("hard", [-20.0, -1.0])
@pytest.mark.parametrize("seed", SEEDS)
def test_further_sweeps_take_a_bounded_share_of_the_steps(batches, seed, hard, scope):
    world = World(batches, seed, **ROLLBACK, scope=scope, patience=32, sweeps=1, retry_share=0.25, learning=0.0)
    world.skills = [hard] * CHUNKS
    world.run(steps=60)
    spent = dict(world.anchored)
    world.run(steps=200)
    for task, used in world.anchored.items():
        assert 0.1 * 200 * 16 < used - spent[task] < 0.4 * 200 * 16


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rollback_comes_back_to_what_it_had_to_leave_unmastered(batches, seed):
    world = World(batches, seed, **ROLLBACK, scope="task", patience=32, sweeps=20).run()
    assert max(record["place"]["sweep"] for record in world.algorithm.state()["tasks"].values()) > 1
    assert world.success() > 0.5


def test_without_patience_a_rollback_stays_where_it_cannot_succeed(batches):
    world = World(batches, 0, **ROLLBACK, scope="task", patience=0)
    world.skills[HARD] = -20.0
    world.run()
    assert world.metrics["ipa/rollback_left"] == CHUNKS - HARD


@pytest.mark.parametrize("scope", ["task", "global"])
@pytest.mark.parametrize("anchors", [ROLLBACK, {**PARALLEL, "choice": "success-frontier"}])
def test_a_run_that_was_cut_off_goes_on_as_if_it_had_not_been(batches, anchors, scope):
    whole = World(batches, 1, **anchors, scope=scope).run(60)
    resumed = World(batches, 1, **anchors, scope=scope).run(25)
    saved = json.loads(json.dumps(resumed.algorithm.state(), sort_keys=True))
    resumed.algorithm = IPA(IPASettings(tasks_per_step=TASKS, group_size=16, anchors={**anchors, "scope": scope}))
    resumed.algorithm.restore(saved)
    for number in range(25, 60):
        resumed.step(number)
    assert resumed.skills == whole.skills
    assert resumed.algorithm.state() == whole.algorithm.state()
    assert resumed.metrics == whole.metrics
