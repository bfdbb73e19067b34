"""What IPA learns from rollouts about where to anchor: rates, rollback, crucial chunks, what is kept of them."""

import json
from collections import Counter
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tumbler.contracts.algorithm import AdaptiveAlgorithm, Group, PlanState
from tumbler.contracts.environment import Task
from tumbler.errors import RunError
from tumbler.trajectory import Anchor
from tumbler_algorithms.ipa.algorithm import IPA
from tumbler_algorithms.ipa.anchors import expected_success
from tumbler_algorithms.ipa.crucial import is_drop
from tumbler_algorithms.ipa.learnt import Learnt, Rate, Record, StepRate, expert_digest
from tumbler_algorithms.ipa.settings import IPASettings

TASK = Task(id="task", instruction="do")


def make(imitation_weight=0.0, **anchors):
    anchors = {"share": 1.0, "scope": "task", **anchors}
    return IPA(IPASettings(group_size=4, imitation_weight=imitation_weight, anchors=anchors))


def rollback(**fields):
    return make(mode="rollback", per_task=1, group_size=4, **{"rollouts": 4, "threshold": 0.75, **fields})


def expert_of(batches, chunks, text=""):
    expert = batches.trajectory(turns=(0.0,) * chunks)
    return replace(expert, chunks=tuple(replace(chunk, text=text) for chunk in expert.chunks))


def group_of(batches, outcomes, *, expert=None, chunk=0, task="task"):
    """A group of one rollout for each 1 (success) or 0, from an anchor or from the start."""
    length = 3 if expert is None else len(expert.chunks)
    trajectories = tuple(
        batches.trajectory(float(outcome), turns=(0.0,) * length, replayed=chunk) for outcome in outcomes
    )
    anchor = None if chunk == 0 else Anchor(expert=expert, chunk=chunk)
    return Group(id="group", task_id=task, trajectories=trajectories, anchor=anchor)


def planned(algorithm, expert, *, step=0, task=TASK):
    groups = algorithm.plan([task], PlanState(step=step, seed=3, experts=lambda _: expert)).groups
    return [(group.anchor.chunk if group.anchor else 0, group.size) for group in groups]


def observe_where_planned(algorithm, batches, expert, outcomes):
    """Let the planned group end as told, and return what is planned next."""
    ((chunk, _),) = planned(algorithm, expert)
    algorithm.observe([group_of(batches, outcomes, expert=expert, chunk=chunk)])
    return planned(algorithm, expert)[0][0]


def test_ipa_learns_from_its_rollouts():
    assert isinstance(make(), AdaptiveAlgorithm)


def test_a_rollback_starts_before_the_last_chunk_with_all_rollouts_of_the_task_there(batches):
    algorithm = make(mode="rollback", per_task=3, group_size=2)
    assert planned(algorithm, expert_of(batches, 5)) == [(4, 6)]


def test_a_rollback_moves_back_by_one_chunk_when_the_rest_is_mastered(batches):
    algorithm, expert = rollback(), expert_of(batches, 4)
    assert observe_where_planned(algorithm, batches, expert, "1110") == 2
    assert observe_where_planned(algorithm, batches, expert, "1100") == 2
    assert observe_where_planned(algorithm, batches, expert, "1101") == 1
    assert observe_where_planned(algorithm, batches, expert, "1111") == 0


def test_only_the_last_rollouts_decide_and_only_when_there_are_enough(batches):
    algorithm, expert = rollback(), expert_of(batches, 4)
    assert observe_where_planned(algorithm, batches, expert, "111") == 3
    assert observe_where_planned(algorithm, batches, expert, "0000") == 3
    assert observe_where_planned(algorithm, batches, expert, "11") == 3
    assert observe_where_planned(algorithm, batches, expert, "1") == 2


def test_a_rollback_moves_once_in_a_step_at_most(batches):
    algorithm, expert = rollback(), expert_of(batches, 5)
    algorithm.observe([group_of(batches, "1111", expert=expert, chunk=chunk) for chunk in (4, 3, 2)])
    assert planned(algorithm, expert)[0][0] == 3


def test_a_rollback_moves_on_unmastered_when_patience_ends_and_begins_again_before_the_start(batches):
    algorithm, expert = rollback(patience=8, sweeps=2), expert_of(batches, 3)
    assert observe_where_planned(algorithm, batches, expert, "1000") == 2
    assert observe_where_planned(algorithm, batches, expert, "0001") == 1
    assert observe_where_planned(algorithm, batches, expert, "1111") == 2
    assert observe_where_planned(algorithm, batches, expert, "1111") == 1
    assert observe_where_planned(algorithm, batches, expert, "00000001") == 0


def test_where_nobody_succeeds_a_rollback_does_not_go_further_back(batches):
    algorithm, expert = rollback(patience=8, sweeps=2), expert_of(batches, 6)
    assert observe_where_planned(algorithm, batches, expert, "1111") == 4
    assert observe_where_planned(algorithm, batches, expert, "00000000") == 5
    assert observe_where_planned(algorithm, batches, expert, "00000000") == 0


def test_rollouts_from_other_anchors_do_not_move_a_rollback(batches):
    algorithm, expert = rollback(), expert_of(batches, 5)
    algorithm.observe([group_of(batches, "1111", expert=expert, chunk=2), group_of(batches, "1111", chunk=0)])
    assert planned(algorithm, expert)[0][0] == 4


def test_tasks_roll_back_each_on_its_own_or_all_together(batches):
    expert, other = expert_of(batches, 5), Task(id="other", instruction="do")
    for scope, chunk in (("task", 4), ("global", 3)):
        algorithm = rollback(scope=scope)
        algorithm.observe([group_of(batches, "1111", expert=expert, chunk=4)])
        assert planned(algorithm, expert)[0][0] == 3
        assert planned(algorithm, expert, task=other)[0][0] == chunk


def test_a_global_rollback_counts_from_the_end_of_experts_of_any_length(batches):
    algorithm, short, long = rollback(scope="global"), expert_of(batches, 3), expert_of(batches, 6)
    algorithm.observe(
        [group_of(batches, "11", expert=short, chunk=2), group_of(batches, "11", expert=long, chunk=5, task="long")]
    )
    assert planned(algorithm, short)[0][0] == 1
    assert planned(algorithm, long)[0][0] == 4
    algorithm.observe([group_of(batches, "1111", expert=long, chunk=4)])
    assert planned(algorithm, short) == [(0, 4)]
    assert planned(algorithm, long)[0][0] == 3


def test_the_share_goes_to_tasks_that_still_have_an_anchor(batches):
    algorithm = IPA(IPASettings(anchors={"mode": "rollback", "share": 0.5}))
    algorithm.observe([group_of(batches, "1" * 8, expert=expert_of(batches, 5), chunk=4)] * 1)
    lengths = {"short-0": 2, "short-1": 2, "long-0": 5, "long-1": 5}
    tasks = [Task(id=name, instruction="do") for name in lengths]
    for step in range(10):
        state = PlanState(step=step, seed=0, experts=lambda name: expert_of(batches, lengths[name]))
        anchored = {group.task.id for group in algorithm.plan(tasks, state).groups if group.anchor}
        assert anchored == {"long-0", "long-1"}


def test_a_dip_in_success_flags_the_chunk_that_the_rollback_moved_before(batches):
    algorithm, expert = rollback(rollouts=8), expert_of(batches, 5)
    observe_where_planned(algorithm, batches, expert, "11111111")
    observe_where_planned(algorithm, batches, expert, "11111110")
    observe_where_planned(algorithm, batches, expert, "0000")
    metrics = algorithm.observe([group_of(batches, "1000", expert=expert, chunk=2)])
    found = {"left": 3, "chunk": 2, "before": 0.125, "after": 0.875, "step": 4, "confirmed": False}
    assert algorithm.state()["crucial"] == {"task": [found]}
    assert metrics["ipa/crucial_chunks"] == 1


@pytest.mark.parametrize(("outcomes", "left"), [("00000000", [True]), ("00000110", [True]), ("11101101", [])])
def test_a_rollback_tests_what_it_found_with_as_many_rollouts_more(batches, outcomes, left):
    algorithm, expert = rollback(rollouts=8), expert_of(batches, 5)
    for told in ("11111111", "00000000", outcomes, "11110000"):
        observe_where_planned(algorithm, batches, expert, told)
    assert [each["confirmed"] for each in algorithm.state()["crucial"].get("task", ())] == left


def test_only_the_first_full_window_can_flag_a_dip(batches):
    algorithm, expert = rollback(rollouts=8), expert_of(batches, 5)
    for outcomes in ("11111111", "11111000", "00000000", "00000000"):
        observe_where_planned(algorithm, batches, expert, outcomes)
    assert algorithm.state()["crucial"] == {}


def test_the_first_chunk_of_an_episode_can_be_crucial_too(batches):
    algorithm, expert = rollback(rollouts=8), expert_of(batches, 2)
    assert observe_where_planned(algorithm, batches, expert, "11111111") == 0
    assert observe_where_planned(algorithm, batches, expert, "00000000") == 0
    assert [each["chunk"] for each in algorithm.state()["crucial"]["task"]] == [0]


def observe_side_by_side(algorithm, batches, expert, steps):
    """Let groups from several anchors end as told, {anchor: outcomes} for each step."""
    for step in steps:
        algorithm.observe([group_of(batches, text, expert=expert, chunk=chunk) for chunk, text in step.items()])


def test_parallel_anchors_a_chunk_apart_flag_a_crucial_chunk(batches):
    algorithm, expert = make(mode="parallel"), expert_of(batches, 6)
    observe_side_by_side(algorithm, batches, expert, [{4: "1111", 3: "0000", 2: "0000"}])
    assert algorithm.state()["crucial"] == {}
    observe_side_by_side(algorithm, batches, expert, [{4: "1111", 3: "0000", 1: "0000"}])
    assert [each["chunk"] for each in algorithm.state()["crucial"]["task"]] == [3]


def test_rollouts_of_policies_that_are_steps_apart_are_not_compared(batches):
    expert = expert_of(batches, 6)
    apart, overlapping = make(mode="parallel"), make(mode="parallel")
    observe_side_by_side(apart, batches, expert, [{3: "0" * 8}, {4: "1" * 8}])
    observe_side_by_side(
        overlapping, batches, expert, [{3: "0" * 4}, {4: "1" * 8}, {3: "0" * 4}, {4: "1" * 8, 3: "0" * 4}]
    )
    assert apart.state()["crucial"] == {}
    apart.restore({})
    observe_side_by_side(apart, batches, expert, [{3: "0" * 8}, {3: "0" * 8, 4: "1" * 4}, {4: "1" * 8}])
    assert apart.state()["crucial"] == {}
    assert [each["chunk"] for each in overlapping.state()["crucial"]["task"]] == [3]


def test_a_drop_must_be_large_and_more_than_chance():
    assert is_drop(Rate(won=1, taken=8), Rate(won=7, taken=8), 0.5)
    # 2.6 standard errors, and 2.99 and 3.001 on either side of the bound.
    assert not is_drop(Rate(won=1, taken=8), Rate(won=6, taken=8), 0.5)
    assert not is_drop(Rate(won=4, taken=12), Rate(won=6, taken=6), 0.5)
    assert is_drop(Rate(won=1, taken=6), Rate(won=5, taken=5), 0.5)
    assert not is_drop(Rate(won=0, taken=2), Rate(won=1, taken=2), 0.5)
    assert not is_drop(Rate(won=400, taken=1000), Rate(won=800, taken=1000), 0.5)
    assert is_drop(Rate(won=200, taken=1000), Rate(won=700, taken=1000), 0.5)
    assert not is_drop(Rate(won=8, taken=8), Rate(won=1, taken=8), 0.5)


def test_chance_alone_seldom_looks_like_a_drop():
    """Over all outcomes of 8 and 8 rollouts at one rate, weighted by their probability."""
    from math import comb

    def probability(won, rate):
        return comb(8, won) * rate**won * (1 - rate) ** (8 - won)

    for rate in (0.1, 0.3, 0.5, 0.7, 0.9):
        false = sum(
            probability(low, rate) * probability(high, rate)
            for low in range(9)
            for high in range(9)
            if is_drop(Rate(won=low, taken=8), Rate(won=high, taken=8), 0.5)
        )
        assert false < 0.0025


def rate(algorithm, left):
    """The success rate that is known of the task's anchor."""
    return algorithm._resampling._learnt.tasks["task"].rate(left)


def test_what_was_found_is_forgotten_if_rollouts_that_were_made_since_contradict_it(batches):
    expert = expert_of(batches, 6)
    drop, partly, none = (
        {4: after * 2, 3: before * 2} for after, before in (("1111", "0000"), ("1110", "1000"), ("1111", "1111"))
    )
    for steps, confirmed in (
        ([drop], [False]),
        ([drop, {4: "1111", 3: "1111"}], [False]),
        ([drop, none], []),
        ([drop, drop, none, none], [True]),
        ([drop, {4: "11111000", 3: "11000000"}], [False]),
        ([drop, {4: "11111000", 3: "11000000"}, none], []),
        ([drop, partly], [True]),
    ):
        algorithm = make(mode="parallel")
        observe_side_by_side(algorithm, batches, expert, steps)
        assert [each["confirmed"] for each in algorithm.state()["crucial"].get("task", ())] == confirmed


@pytest.mark.parametrize(
    "anchors",
    [
        {"mode": "parallel", "choice": "random"},
        {"mode": "parallel", "choice": "random", "group_size": 8},
        {"mode": "parallel", "choice": "success-frontier"},
        {"mode": "rollback"},
    ],
)
def test_where_no_chunk_is_crucial_hardly_any_is_found_in_two_hundred_steps(batches, anchors):
    """Half of all rollouts succeed, wherever they start."""
    expert, tasks = expert_of(batches, 8), [Task(id=str(index), instruction="do") for index in range(6)]
    ends = [batches.trajectory(float(reward), turns=(0.0,)) for reward in (0, 1)]
    found = places = 0
    for seed in range(6):
        algorithm, random = make(**anchors), Random(seed)
        for step in range(200):
            plan = algorithm.plan(tasks, PlanState(step=step, seed=seed, experts=lambda _: expert))
            algorithm.observe(
                [
                    Group(
                        id="group",
                        task_id=each.task.id,
                        trajectories=tuple(random.choice(ends) for _ in range(each.size)),
                        anchor=each.anchor,
                    )
                    for each in plan.groups
                ]
            )
        found += sum(len(each) for each in algorithm.state()["crucial"].values())
        places += 6 * len(tasks)
    assert found < 0.02 * places


def test_a_new_expert_of_another_length_leaves_nothing_of_the_rates_of_the_old_one(batches):
    algorithm = rollback(rollouts=8)
    for outcomes in ("11111111", "1100"):
        observe_where_planned(algorithm, batches, expert_of(batches, 4, "old"), outcomes)
    new = expert_of(batches, 6, "new")
    algorithm.observe([group_of(batches, "0000", expert=new, chunk=4)])
    place = algorithm.state()["tasks"]["task"]["place"]
    assert (place["left"], place["recent"], place["rate"], place["after"]) == (
        2,
        "0000",
        {"won": 0, "taken": 4},
        {"won": 0, "taken": 0},
    )
    algorithm.observe([group_of(batches, "0000", expert=new, chunk=4)])
    assert algorithm.state()["crucial"] == {}


def test_rates_outlive_experts_of_one_length_that_are_made_anew_in_each_step(batches):
    algorithm = make(choice="success-frontier", per_task=1)
    for step, outcomes in enumerate(("1100", "1000", "0000")):
        algorithm.observe([group_of(batches, outcomes, expert=expert_of(batches, 5, str(step)), chunk=2)])
    assert rate(algorithm, 3) == Rate(won=3, taken=12)
    algorithm.observe([group_of(batches, "1", expert=expert_of(batches, 6, "longer"), chunk=5)])
    assert rate(algorithm, 3) == Rate()


def test_a_rollback_moves_although_its_expert_is_made_anew_in_each_step(batches):
    algorithm = rollback(rollouts=8)
    for step, expected in enumerate((4, 3)):
        expert = expert_of(batches, 5, str(step))
        assert observe_where_planned(algorithm, batches, expert, "1111") == expected
    longer, shorter = expert_of(batches, 6), expert_of(batches, 5)
    moved = rollback(rollouts=8, patience=16)
    for expert, chunk in (longer, 5), (shorter, 4), (longer, 5), (shorter, 4):
        moved.observe([group_of(batches, "1110", expert=expert, chunk=chunk)])
    assert planned(moved, longer)[0][0] == 4


def test_a_new_expert_is_not_compared_with_what_came_after_in_the_old_one(batches):
    algorithm = rollback(rollouts=8)
    observe_where_planned(algorithm, batches, expert_of(batches, 5, "old"), "11111111")
    observe_where_planned(algorithm, batches, expert_of(batches, 5, "new"), "00000000")
    assert algorithm.state()["crucial"] == {}


def test_patience_is_each_tasks_own_where_many_roll_back_together(batches):
    algorithm, expert = rollback(scope="global", patience=8), expert_of(batches, 5)
    groups = [group_of(batches, "1000", expert=expert, chunk=4, task=str(task)) for task in range(10)]
    algorithm.observe(groups)
    assert planned(algorithm, expert)[0][0] == 4
    algorithm.observe(groups)
    assert planned(algorithm, expert)[0][0] == 3


def test_after_its_last_sweep_a_rollback_rests_before_each_further_one(batches):
    algorithm, expert = rollback(patience=4, sweeps=1, retry_share=0.25), expert_of(batches, 3)
    anchored = []
    for _ in range(18):
        ((chunk, _),) = planned(algorithm, expert)
        anchored.append(chunk > 0)
        algorithm.observe([group_of(batches, "1000", expert=expert if chunk else None, chunk=chunk)])
    # A sweep over two anchors, then a rest three times as long.
    assert anchored == ([True] * 2 + [False] * 6) * 2 + [True] * 2


def test_a_rollback_that_rests_does_so_for_longer_experts_too(batches):
    algorithm = rollback(scope="global", patience=4, sweeps=1)
    observe_where_planned(algorithm, batches, expert_of(batches, 3), "0000")
    assert planned(algorithm, expert_of(batches, 5)) == [(0, 4)]


@pytest.mark.parametrize(("retry_share", "resumes"), [(0.0, False), (0.25, True)])
def test_a_rollback_that_mastered_everything_never_begins_again_and_others_do_if_asked_for(
    batches, retry_share, resumes
):
    for outcomes, begins in (("1111", False), ("0000", resumes)):
        algorithm = rollback(patience=4, sweeps=1, retry_share=retry_share)
        expert = expert_of(batches, 2)
        assert observe_where_planned(algorithm, batches, expert, outcomes) == 0
        found = [observe_where_planned(algorithm, batches, expert, "0000") for _ in range(10)]
        assert any(found) is begins


def test_a_new_expert_voids_what_was_known_of_the_old_one_but_for_where_the_rollback_stands(batches):
    algorithm = rollback(rollouts=8)
    old, new = expert_of(batches, 4, "old"), expert_of(batches, 6, "new")
    for outcomes in ("11111111", "00000000"):
        observe_where_planned(algorithm, batches, old, outcomes)
    assert algorithm.state()["crucial"]["task"]
    assert planned(algorithm, new) == [(4, 4)]
    algorithm.observe([group_of(batches, "1111", expert=new, chunk=4)])
    assert planned(algorithm, new) == [(4, 4)]
    assert algorithm.state()["crucial"] == {}
    assert algorithm.state()["tasks"]["task"]["windows"] == {"2": [{"step": 3, "won": 4, "taken": 4}]}


def test_steps_before_the_last_rollouts_of_an_anchor_are_forgotten(batches):
    algorithm, expert = make(memory=6, rollouts=6), expert_of(batches, 4)
    for outcomes in ("1111", "0100", "10"):
        algorithm.observe([group_of(batches, outcomes, expert=expert, chunk=2)])
    window = [{"step": 2, "won": 1, "taken": 4}, {"step": 3, "won": 1, "taken": 2}]
    assert algorithm.state()["shared"]["windows"] == {"2": window}


def test_tasks_that_were_met_long_ago_are_forgotten():
    learnt = Learnt(tasks={str(index): Record(touched=index) for index in range(5000)}, crucial={"0": [], "4999": []})
    learnt.forget_old_tasks()
    assert set(learnt.tasks) == {str(index) for index in range(5000 - 4096, 5000)}
    assert set(learnt.crucial) == {"4999"}


def test_a_task_is_met_in_whole_episodes_too(batches):
    algorithm = make()
    algorithm.observe([group_of(batches, "1", expert=expert_of(batches, 3), chunk=1)])
    algorithm.observe([group_of(batches, "1")])
    assert algorithm.state()["tasks"]["task"]["touched"] == 2


def test_each_task_has_a_frontier_of_its_own_in_the_scope_of_tasks(batches):
    algorithm, expert = make(choice="success-frontier", per_task=1, memory=64), expert_of(batches, 7)
    for name, frontier in (("early", 2), ("late", 5)):
        for chunk in range(1, 7):
            outcomes = "10" * 32 if chunk == frontier else ("0" if chunk < frontier else "1") * 64
            algorithm.observe([group_of(batches, outcomes, expert=expert, chunk=chunk, task=name)])
    for name, frontier in (("early", 2), ("late", 5)):
        task = Task(id=name, instruction="do")
        drawn = Counter(planned(algorithm, expert, step=step, task=task)[0][0] for step in range(100))
        assert drawn[frontier] > 60


def test_frontier_anchors_are_where_success_is_uncertain(batches):
    algorithm = make(choice="success-frontier", per_task=1, memory=64)
    expert = expert_of(batches, 9)
    for chunk in range(1, 9):
        outcomes = "10" * 32 if chunk == 5 else ("0" if chunk < 5 else "1") * 64
        algorithm.observe([group_of(batches, outcomes, expert=expert, chunk=chunk)])
    drawn = Counter(planned(algorithm, expert, step=step)[0][0] for step in range(300))
    assert drawn[5] > 150
    assert len(drawn) > 5


def test_frontier_anchors_of_a_new_task_follow_those_of_others_as_far_from_the_end(batches):
    algorithm = make(choice="success-frontier", per_task=1, memory=64)
    for left in range(1, 8):
        outcomes = "10" * 32 if left == 3 else ("1" if left < 3 else "0") * 64
        algorithm.observe([group_of(batches, outcomes, expert=expert_of(batches, 8), chunk=8 - left)])
    new = Task(id="new", instruction="do")
    drawn = Counter(planned(algorithm, expert_of(batches, 6, "new"), step=step, task=new)[0][0] for step in range(200))
    assert drawn.most_common(1)[0][0] == 6 - 3


def test_anchors_that_nobody_tried_are_drawn_before_those_that_always_fail(batches):
    algorithm = make(choice="success-frontier", per_task=1)
    expert = expert_of(batches, 5)
    algorithm.observe([group_of(batches, "0" * 32, expert=expert, chunk=chunk) for chunk in (1, 2, 3)])
    drawn = Counter(planned(algorithm, expert, step=step)[0][0] for step in range(200))
    assert drawn[4] > 100


def test_with_mode_none_no_expert_is_asked_for(batches):
    def never(task_id):
        raise AssertionError(task_id)

    algorithm = make(mode="none")
    assert not algorithm.wants_experts
    assert [group.anchor for group in algorithm.plan([TASK], PlanState(step=0, seed=0, experts=never)).groups] == [None]


def test_the_metrics_tell_success_by_what_anchors_leave(batches):
    algorithm, expert = make(mode="parallel", rollouts=2), expert_of(batches, 8)
    metrics = algorithm.observe(
        [
            group_of(batches, "1000", task="other"),
            group_of(batches, "1100", expert=expert, chunk=2),
            group_of(batches, "11", expert=expert, chunk=6),
        ]
    )
    assert metrics == {
        "ipa/success_left_4": 0.5,
        "ipa/success_left_2": 1.0,
        "ipa/anchor_depth": pytest.approx((4 * 0.25 + 2 * 0.75) / 6),
        "ipa/mastered_left": 2.0,
        "ipa/crucial_chunks": 0.0,
    }


def test_an_anchor_exactly_at_the_threshold_is_mastered(batches):
    algorithm, expert = make(threshold=0.75), expert_of(batches, 8)
    assert algorithm.observe([group_of(batches, "1110", expert=expert, chunk=6)])["ipa/mastered_left"] == 2
    assert algorithm.observe([group_of(batches, "1100", expert=expert, chunk=5)])["ipa/mastered_left"] == 2


def test_guesses_of_success_weigh_as_much_as_two_rollouts():
    shared = Record(windows={3: [StepRate(step=1, won=3, taken=6)], 2: [StepRate(step=1, won=6, taken=6)]})
    own = Record(windows={2: [StepRate(step=1, won=0, taken=2)]})
    assert expected_success(1, None, shared) == 0.5
    assert expected_success(2, None, shared) == 7 / 8
    assert expected_success(2, own, shared) == 2 * (7 / 8) / 4


def test_experts_whose_chunks_are_cut_elsewhere_are_other_experts(batches):
    record = batches.trajectory(turns=(0.0, 0.0))

    def said(*texts):
        chunks = tuple(replace(chunk, text=text) for chunk, text in zip(record.chunks, texts, strict=True))
        return expert_digest(replace(record, chunks=chunks))

    assert said("ab", "c") == said("ab", "c") != said("a", "bc")


def test_a_verdict_without_success_counts_by_its_reward(batches):
    algorithm, expert = make(memory=2, rollouts=2), expert_of(batches, 3)
    group = group_of(batches, "10", expert=expert, chunk=1)
    unsaid = replace(group, trajectories=tuple(replace(each, success=None) for each in group.trajectories))
    algorithm.observe([unsaid])
    assert algorithm.state()["shared"]["windows"] == {"2": [{"step": 1, "won": 1, "taken": 2}]}


def imitated(algorithm, group):
    """The credit of replayed chunks."""
    return [
        [credit for chunk, credit in zip(record.chunks, credited, strict=True) if chunk.replayed]
        for record, credited in zip(group.trajectories, algorithm.credit(group), strict=True)
    ]


def imitating(**anchors):
    settings = IPASettings(imitation_weight=0.5, gamma=0.5, imitation_credit="discounted", anchors=anchors)
    return IPA(settings)


@pytest.mark.parametrize("scope", ["task", "global"])
def test_all_replayed_chunks_are_imitated_or_only_crucial_ones(batches, scope):
    expert = expert_of(batches, 5)
    late, early = (group_of(batches, "10", expert=expert, chunk=chunk) for chunk in (4, 2))
    everything, crucial = (imitating(scope=scope, imitate=each) for each in ("all", "crucial"))
    for algorithm in (everything, crucial):
        observe_side_by_side(algorithm, batches, expert, [{3: "1" * 4, 2: "0" * 4}])
    assert imitated(everything, late) == [[1 / 16, 1 / 8, 1 / 4, 1 / 2]] * 2
    assert imitated(crucial, late) == [[0, 0, 0, 0]] * 2
    observe_side_by_side(crucial, batches, expert, [{3: "1" * 4, 2: "0" * 4}])
    assert imitated(crucial, late) == [[0, 0, 1 / 4, 0]] * 2
    assert imitated(crucial, early) == [[0, 0]] * 2
    assert [each[4] for each in crucial.credit(late)] == [each[4] for each in everything.credit(late)] == [1, 0]


def test_crucial_chunks_of_another_expert_are_not_imitated(batches):
    algorithm, expert = imitating(scope="task", imitate="crucial"), expert_of(batches, 5)
    observe_side_by_side(algorithm, batches, expert, [{3: "1" * 8, 2: "0" * 8}])
    assert imitated(algorithm, group_of(batches, "1", expert=expert, chunk=4)) == [[0, 0, 1 / 4, 0]]
    other = expert_of(batches, 5, "new")
    assert imitated(algorithm, group_of(batches, "1", expert=other, chunk=4)) == [[0, 0, 0, 0]]


def test_a_rollback_also_starts_after_a_crucial_chunk_that_is_to_be_imitated(batches):
    expert = expert_of(batches, 5)
    for imitate, expected in (("all", [(3, 4)]), ("crucial", [(3, 4), (4, 4)])):
        algorithm = rollback(imitation_weight=0.1, rollouts=8, imitate=imitate)
        observe_where_planned(algorithm, batches, expert, "11111111")
        observe_where_planned(algorithm, batches, expert, "00000000")
        assert planned(algorithm, expert) == expected


def test_the_beginning_can_be_restored(batches):
    algorithm, expert = rollback(), expert_of(batches, 4)
    fresh = algorithm.state()
    observe_where_planned(algorithm, batches, expert, "1111")
    assert algorithm.state() != fresh
    algorithm.restore({})
    assert algorithm.state() == fresh
    assert planned(algorithm, expert)[0][0] == 3


def test_a_state_that_ipa_did_not_write_is_refused():
    with pytest.raises(RunError, match="state of the algorithm ipa cannot be read"):
        make().restore({"tasks": {"task": {"place": "here"}}})


def test_patience_shorter_than_a_window_is_refused():
    with pytest.raises(ValidationError, match="patience"):
        make(rollouts=8, patience=7)


def test_a_memory_shorter_than_a_window_is_refused_where_memory_is_what_is_compared():
    with pytest.raises(ValidationError, match="memory = 7 forgets"):
        make(rollouts=8, memory=7)
    make(mode="rollback", rollouts=64, memory=32)
    make(rollouts=8, memory=8)


@pytest.mark.parametrize("nowhere", [{"mode": "none"}, {"share": 0.0}])
def test_an_imitation_term_without_anything_to_imitate_is_refused(nowhere):
    with pytest.raises(ValidationError, match=r"imitation_weight = 0\.1 has nothing to imitate"):
        make(imitation_weight=0.1, **nowhere)
    make(**nowhere)


def test_a_choice_of_what_to_imitate_without_an_imitation_term_is_refused():
    with pytest.raises(ValidationError, match=r'anchors\.imitate = "crucial"'):
        make(imitate="crucial")


anchor_tables = st.fixed_dictionaries(
    {
        "mode": st.sampled_from(("parallel", "rollback")),
        "choice": st.sampled_from(("uniform", "random", "success-frontier")),
        "scope": st.sampled_from(("task", "global")),
        "imitate": st.sampled_from(("all", "crucial")),
        "share": st.floats(0.01, 1),
        "per_task": st.integers(1, 4),
        "group_size": st.integers(1, 4),
        "rollouts": st.integers(1, 4),
        "patience": st.just(0) | st.integers(4, 9),
        "sweeps": st.integers(1, 3),
        "retry_share": st.sampled_from((0.0, 0.5, 1.0)),
        "dip": st.floats(0.1, 1),
        "memory": st.integers(4, 9),
    }
)

observations = st.lists(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 6), st.integers(0, 6), st.text("01", min_size=1, max_size=6)),
        max_size=4,
    ),
    max_size=8,
)
"""Steps of groups: task, length of its expert, anchor, outcomes."""


@given(table=anchor_tables, history=observations, seed=st.integers(0, 2**32))
def test_whatever_was_observed_plans_are_valid_and_follow_from_the_saved_state(batches, table, history, seed):
    settings = IPASettings(group_size=3, imitation_weight=0.1, anchors=table)
    algorithm = IPA(settings)
    for step in history:
        algorithm.observe(
            [
                group_of(
                    batches, outcomes, expert=expert_of(batches, length), chunk=min(chunk, length - 1), task=str(task)
                )
                for task, length, chunk, outcomes in step
            ]
        )
    other = IPA(settings)
    other.restore(json.loads(json.dumps(algorithm.state(), sort_keys=True)))
    assert other.state() == algorithm.state()
    tasks = [Task(id=str(index), instruction="do") for index in range(5)]
    experts = {task.id: expert_of(batches, 1 + index) for index, task in enumerate(tasks[:4])}
    state = PlanState(step=len(history), seed=seed, experts=experts.get)
    groups = algorithm.plan(tasks, state).groups
    assert groups == other.plan(tasks, state).groups == algorithm.plan(tasks, state).groups
    assert list(dict.fromkeys(group.task.id for group in groups)) == [task.id for task in tasks]
    for group in groups:
        assert group.size >= 1
        if group.anchor is not None:
            assert group.anchor.expert is experts[group.task.id]
            assert 1 <= group.anchor.chunk < len(group.anchor.expert.chunks)
    assert len({(group.task.id, group.anchor and group.anchor.chunk) for group in groups}) == len(groups)
