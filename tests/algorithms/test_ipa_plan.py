"""Parallelised initialisation: which rollouts IPA asks for."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumbler.contracts.algorithm import PlanState
from tumbler.contracts.environment import Task
from tumbler_algorithms.ipa.algorithm import IPA
from tumbler_algorithms.ipa.settings import IPASettings

anchor_tables = st.fixed_dictionaries(
    {
        "share": st.floats(0, 1),
        "choice": st.sampled_from(("uniform", "random")),
        "per_task": st.integers(1, 5),
        "group_size": st.integers(1, 5),
    }
)


def make_tasks(count):
    return [Task(id=f"task-{index}", instruction="do") for index in range(count)]


def plan(tasks, experts, *, seed=0, step=0, **fields):
    state = PlanState(step=step, seed=seed, experts=experts)
    return IPA(IPASettings(**fields)).plan(tasks, state).groups


def uniform(batches, chunks, per_task):
    expert = batches.trajectory(turns=(0.0,) * chunks)
    groups = plan(make_tasks(1), lambda _: expert, anchors={"share": 1, "per_task": per_task})
    return [group.anchor and group.anchor.chunk for group in groups]


@given(
    table=anchor_tables,
    lengths=st.lists(st.none() | st.integers(0, 7), min_size=1, max_size=6),
    seed=st.integers(0, 2**62),
    step=st.integers(0, 99),
)
def test_plans_are_within_bounds_and_equal_for_equal_seed_and_step(batches, table, lengths, seed, step):
    tasks = make_tasks(len(lengths))
    known = {
        task.id: batches.trajectory(turns=(0.0,) * length)
        for task, length in zip(tasks, lengths, strict=True)
        if length is not None
    }
    groups = plan(tasks, known.get, seed=seed, step=step, group_size=3, anchors=table)
    assert groups == plan(tasks, known.get, seed=seed, step=step, group_size=3, anchors=table)
    assert list(dict.fromkeys(group.task.id for group in groups)) == [task.id for task in tasks]
    anchored = [group for group in groups if group.anchor is not None]
    assert len({group.task.id for group in anchored}) <= int(table["share"] * len(tasks)) + 1
    for task in tasks:
        mine = [group for group in groups if group.task == task]
        if mine[0].anchor is None:
            assert [group.size for group in mine] == [3]
            continue
        chunks = [group.anchor.chunk for group in mine]
        last = len(known[task.id].chunks) - 1
        assert all(group.anchor.expert is known[task.id] for group in mine)
        assert chunks == sorted(set(chunks))
        assert set(chunks) <= set(range(1, last + 1))
        assert len(chunks) == min(table["per_task"], last)
        assert {group.size for group in mine} == {table["group_size"]}


def test_uniform_anchors_are_evenly_spaced(batches):
    assert uniform(batches, 8, 3) == [2, 4, 6]
    assert uniform(batches, 9, 2) == [3, 6]
    assert uniform(batches, 10, 1) == [5]


def test_a_short_expert_gives_each_of_its_anchors_once(batches):
    assert uniform(batches, 3, 5) == [1, 2]


@pytest.mark.parametrize("chunks", [0, 1])
def test_an_expert_with_nothing_to_replay_or_to_leave_gives_no_anchor(batches, chunks):
    assert uniform(batches, chunks, 2) == [None]


def test_tasks_without_an_expert_start_at_the_beginning():
    groups = plan(make_tasks(3), lambda _: None, anchors={"share": 1})
    assert [group.anchor for group in groups] == [None] * 3


def test_the_share_is_that_of_the_tasks_on_average(batches):
    expert = batches.trajectory(turns=(0.0,) * 5)

    def anchored(share, count, step):
        groups = plan(make_tasks(count), lambda _: expert, step=step, anchors={"share": share})
        return len({group.task.id for group in groups if group.anchor})

    assert {anchored(0.25, 8, step) for step in range(20)} == {2}
    assert {anchored(1.0, 3, step) for step in range(20)} == {3}
    assert 60 < sum(anchored(0.5, 1, step) for step in range(200)) < 140


def test_anchored_tasks_and_random_anchors_change_from_step_to_step(batches):
    expert = batches.trajectory(turns=(0.0,) * 9)
    seen = Counter()
    for step in range(60):
        for group in plan(make_tasks(4), lambda _: expert, step=step, anchors={"share": 0.5, "choice": "random"}):
            if group.anchor:
                seen[group.task.id, group.anchor.chunk] += 1
    assert {task for task, _ in seen} == {task.id for task in make_tasks(4)}
    assert {chunk for _, chunk in seen} == set(range(1, 9))


def test_anchored_and_whole_tasks_cost_equally_many_rollouts_by_default(batches):
    expert = batches.trajectory(turns=(0.0,) * 5)
    groups = plan(make_tasks(4), lambda _: expert)
    per_task = Counter()
    for group in groups:
        per_task[group.task.id] += group.size
    assert set(per_task.values()) == {IPASettings().group_size}


def test_no_expert_is_asked_for_at_share_zero():
    def never(task_id):
        raise AssertionError(task_id)

    assert len(plan(make_tasks(3), never, anchors={"share": 0})) == 3
    assert not IPA(IPASettings(anchors={"share": 0})).wants_experts
    assert IPA(IPASettings(anchors={"share": 0.1})).wants_experts


def test_the_update_rule_and_the_number_of_tasks_are_those_of_the_settings():
    algorithm = IPA(IPASettings(tasks_per_step=3, old_policy="snapshot", epochs=2, minibatches=4))
    rule = algorithm.update_rule
    assert algorithm.tasks_per_step == 3
    assert (rule.old_policy, rule.epochs, rule.minibatches) == ("snapshot", 2, 4)
