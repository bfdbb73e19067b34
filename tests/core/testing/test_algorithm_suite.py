"""The suite of algorithms passes a sound implementation, and catches each fault with the right test."""

import random

import pytest

from tumbler.contracts.algorithm import PlannedGroup, RolloutPlan, UpdateRule
from tumbler.contracts.batch import LossOutput
from tumbler.testing import (
    AlgorithmSuite,
)


class Reinforce:
    update_rule = UpdateRule()
    tasks_per_step = 3
    wants_experts = False

    def plan(self, tasks, state):
        return RolloutPlan(groups=tuple(PlannedGroup(task=task, size=2) for task in tasks))

    def credit(self, group):
        return [[each.reward or 0.0] * len(each.chunks) for each in group.trajectories]

    def loss(self, batch):
        inside = batch.chunk_of_token >= 0
        total = -(batch.policy_logprobs[inside] * batch.chunk_credit[batch.chunk_of_token[inside]]).sum()
        return LossOutput(total=total, denominator=float(inside.sum()))


def mean_loss(self, batch):
    inside = batch.chunk_of_token >= 0
    total = -(batch.policy_logprobs[inside] * batch.chunk_credit[batch.chunk_of_token[inside]]).mean()
    return LossOutput(total=total, denominator=1.0)


def careless_loss(self, batch):
    return LossOutput(total=-batch.policy_logprobs.sum(), denominator=1.0)


def masks_too_late(self, batch):
    inside = (batch.chunk_of_token >= 0).double()
    return LossOutput(total=-(batch.policy_logprobs * inside).sum(), denominator=float(inside.sum()))


def one_credit_for_each_trajectory(self, group):
    return [[each.reward or 0.0] for each in group.trajectories]


def divides_by_the_deviation(self, group):
    rewards = [each.reward or 0.0 for each in group.trajectories]
    spread = max(rewards) - min(rewards)
    return [[reward / spread] * len(each.chunks) for reward, each in zip(rewards, group.trajectories, strict=True)]


def counts_calls(self, group):
    self.calls = self.__dict__.get("calls", 0) + 1
    return [[float(self.calls)] * len(each.chunks) for each in group.trajectories]


def credits_in_torch(self, group):
    import torch

    return [torch.zeros(len(each.chunks)).tolist() for each in group.trajectories]


def plans_at_random(self, tasks, state):
    return RolloutPlan(groups=(PlannedGroup(task=tasks[0], size=random.randint(1, 1 << 30)),))


def anchors_anywhere(self, tasks, state):
    from tumbler.testing import sample_trajectory
    from tumbler.trajectory import Anchor

    anchor = Anchor(expert=sample_trajectory(), chunk=99)
    return RolloutPlan(groups=tuple(PlannedGroup(task=task, size=1, anchor=anchor) for task in tasks))


def wants_all_tasks(self, tasks, state):
    return RolloutPlan(groups=tuple(PlannedGroup(task=tasks[index], size=1) for index in range(self.tasks_per_step)))


ALGORITHMS = {
    "no epochs": ({"update_rule": UpdateRule(epochs=0)}, "test_its_update_rule_can_be_carried_out"),
    "no rollouts": (
        {"plan": lambda self, tasks, state: RolloutPlan(groups=())},
        "test_it_plans_rollouts_of_the_tasks_on_offer",
    ),
    "needs all": ({"plan": wants_all_tasks}, "test_it_makes_do_with_fewer_tasks_than_it_wants"),
    "random": ({"plan": plans_at_random}, "test_equal_seeds_give_equal_plans"),
    "anchors": ({"plan": anchors_anywhere}, "test_its_anchors_are_experts_of_the_same_task"),
    "credit shape": ({"credit": one_credit_for_each_trajectory}, "test_every_chunk_gets_one_finite_credit"),
    "lone": ({"credit": divides_by_the_deviation}, "test_a_group_of_one_is_credited"),
    "state": ({"credit": counts_calls}, "test_credit_depends_on_the_group_alone"),
    "torch": ({"credit": credits_in_torch}, "test_planning_and_credit_need_no_torch"),
    "mean": ({"loss": mean_loss}, "test_micro_batches_add_up_to_the_whole"),
    "careless": ({"loss": careless_loss}, "test_only_chunk_tokens_matter_to_the_loss"),
    "nan": ({"loss": masks_too_late}, "test_only_chunk_tokens_matter_to_the_loss"),
    "nothing": ({"loss": careless_loss}, "test_a_batch_without_trainable_chunks_has_no_gradient"),
    "no gradient": (
        {"loss": lambda self, batch: LossOutput(total=batch.reward.sum(), denominator=1.0)},
        "test_the_loss_has_a_finite_gradient",
    ),
}


def test_the_algorithm_suite_passes_a_sound_algorithm(caught):
    assert caught(AlgorithmSuite, algorithm=Reinforce()) == set()


@pytest.mark.parametrize("fault", ALGORITHMS)
def test_the_algorithm_suite_catches(caught, broken, fault):
    methods, expected = ALGORITHMS[fault]
    assert expected in caught(AlgorithmSuite, algorithm=broken(Reinforce, methods)())
