"""The contract of algorithms as tests: plans, credit, and the loss in torch where torch is installed."""

import math
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import pytest

from tumbler.contracts.algorithm import Algorithm, Group, PlanState, RolloutPlan, UpdateRule
from tumbler.contracts.batch import LossOutput, OldPolicySource, TokenBatch
from tumbler.contracts.environment import Task
from tumbler.testing.samples import sample_task, sample_trajectory
from tumbler.testing.suite import ContractSuite
from tumbler.trajectory.record import Trajectory

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["AlgorithmSuite"]

_TOLERANCE = 1e-6


class AlgorithmSuite(ContractSuite):
    """Subclass it with the fixture `algorithm`. The tests of the loss are skipped where torch is missing."""

    @pytest.fixture
    def algorithm(self) -> Algorithm:
        """Override: return the algorithm."""
        raise NotImplementedError("define the fixture algorithm: the algorithm to test")

    def test_its_update_rule_can_be_carried_out(self, algorithm: Algorithm) -> None:
        """Counts are positive and the old policy is one that training backends know."""
        rule = algorithm.update_rule
        assert isinstance(rule, UpdateRule)
        assert rule.epochs >= 1 and rule.minibatches >= 1, f"{rule} takes no step"
        assert rule.old_policy in get_args(OldPolicySource), f"unknown old policy {rule.old_policy!r}"
        assert algorithm.tasks_per_step >= 1, "tasks_per_step must be at least 1"

    def test_it_plans_rollouts_of_the_tasks_on_offer(self, algorithm: Algorithm) -> None:
        """With experts and without; a plan without rollouts ends a run."""
        for experts in (False, True):
            plan = _plan(algorithm, experts=experts)
            assert isinstance(plan, RolloutPlan) and plan.groups, "the plan holds no group"
            assert all(group.size >= 1 for group in plan.groups), "a group of the plan has no rollout"
            offered = {task.id for task in _tasks(algorithm)}
            assert {group.task.id for group in plan.groups} <= offered, "the plan names tasks that were not offered"

    def test_it_makes_do_with_fewer_tasks_than_it_wants(self, algorithm: Algorithm) -> None:
        """A finite environment may have fewer."""
        plan = algorithm.plan([sample_task()], PlanState(step=0, seed=0))
        assert plan.groups and all(group.task == sample_task() for group in plan.groups), (
            "plan the tasks that there are"
        )

    def test_its_anchors_are_experts_of_the_same_task(self, algorithm: Algorithm) -> None:
        """Only those that it was given, and never past their end."""
        for group in _plan(algorithm, experts=True).groups:
            if group.anchor is not None:
                assert group.anchor.expert.header.task == group.task.id, "an anchor belongs to another task"
                assert 0 <= group.anchor.chunk <= len(group.anchor.expert.chunks), "an anchor lies outside its expert"
        assert all(group.anchor is None for group in _plan(algorithm, experts=False).groups), "an anchor from nowhere"

    def test_equal_seeds_give_equal_plans(self, algorithm: Algorithm) -> None:
        """Whatever was planned or credited in between: an algorithm holds no state."""
        before = _plan(algorithm, experts=True)
        _plan(algorithm, experts=False, seed=99)
        algorithm.credit(_group())
        assert _plan(algorithm, experts=True) == before, "the same state gave another plan"

    def test_every_chunk_gets_one_finite_credit(self, algorithm: Algorithm) -> None:
        """In the order of the chunks, also for replayed chunks and for trajectories without any."""
        group = _group()
        credited = algorithm.credit(group)
        expected = [len(each.chunks) for each in group.trajectories]
        assert [len(each) for each in credited] == expected, f"credits {credited} for chunks {expected}"
        assert all(math.isfinite(value) for each in credited for value in each), f"not finite: {credited}"

    def test_a_group_of_one_is_credited(self, algorithm: Algorithm) -> None:
        """What fails for reasons of infrastructure is missing from its group."""
        credited = algorithm.credit(_group_of(sample_trajectory()))
        assert all(math.isfinite(value) for each in credited for value in each), f"not finite: {credited}"

    def test_credit_depends_on_the_group_alone(self, algorithm: Algorithm) -> None:
        """Credit is computed again when a run resumes."""
        before = [list(each) for each in algorithm.credit(_group())]
        algorithm.credit(_group_of(sample_trajectory(reward=0.0)))
        assert [list(each) for each in algorithm.credit(_group())] == before, "the same group got other credits"

    def test_planning_and_credit_need_no_torch(self, algorithm: Algorithm, monkeypatch: pytest.MonkeyPatch) -> None:
        """They run where the trainer does not."""
        monkeypatch.setitem(sys.modules, "torch", None)
        _plan(algorithm, experts=True)
        algorithm.credit(_group())

    def test_the_loss_has_a_finite_gradient(self, algorithm: Algorithm) -> None:
        """`total` is one number with a gradient; the denominator is what the sum is over."""
        batch = _batch(_batch_rows(), algorithm.update_rule)
        output = algorithm.loss(batch)
        assert isinstance(output, LossOutput)
        assert output.total.shape == (), f"total has the shape {tuple(output.total.shape)}; it must be one number"
        assert math.isfinite(output.total.item()) and math.isfinite(output.denominator) and output.denominator >= 0
        output.total.backward()
        gradient = batch.policy_logprobs.grad
        assert gradient is not None and bool(gradient.isfinite().all()), "the gradient is not finite"
        for name, (value, count) in output.metrics.items():
            assert math.isfinite(value) and count > 0, f"metric {name} is ({value}, {count})"

    def test_only_chunk_tokens_matter_to_the_loss(self, algorithm: Algorithm) -> None:
        """Prompts, observations and padding change nothing, whatever stands there."""
        rule = algorithm.update_rule
        clean, noisy = _batch(_batch_rows(), rule), _batch(_batch_rows(), rule, noise=math.nan, padding=3)
        outputs = [algorithm.loss(batch) for batch in (clean, noisy)]
        assert outputs[1].total.item() == pytest.approx(outputs[0].total.item(), rel=_TOLERANCE, abs=_TOLERANCE)
        assert outputs[1].denominator == pytest.approx(outputs[0].denominator)
        outputs[1].total.backward()
        gradient = noisy.policy_logprobs.grad
        outside = (noisy.chunk_of_token < 0) & ~noisy.imitation_mask
        assert gradient is not None and not bool(gradient[outside].any()), "tokens outside of chunks have a gradient"

    def test_micro_batches_add_up_to_the_whole(self, algorithm: Algorithm) -> None:
        """However whole trajectories are dealt out, totals and denominators have one sum."""
        rows, rule = _batch_rows(), algorithm.update_rule
        whole = algorithm.loss(_batch(rows, rule))
        parts = [algorithm.loss(_batch(rows[:1], rule)), algorithm.loss(_batch(rows[1:], rule))]
        total = sum(part.total.item() for part in parts)
        assert total == pytest.approx(whole.total.item(), rel=_TOLERANCE, abs=_TOLERANCE), "totals do not add up"
        assert sum(part.denominator for part in parts) == pytest.approx(whole.denominator), "denominators do not add up"

    def test_a_batch_without_trainable_chunks_has_no_gradient(self, algorithm: Algorithm) -> None:
        """A trajectory may hold nothing but a prompt."""
        batch = _batch([([], 1.0)], algorithm.update_rule)
        output = algorithm.loss(batch)
        assert math.isfinite(output.total.item()), "the loss of nothing is not finite"
        if output.total.requires_grad:
            output.total.backward()
            gradient = batch.policy_logprobs.grad
            assert gradient is None or not bool(gradient.any()), "nothing to train, but there is a gradient"


def _tasks(algorithm: Algorithm) -> list[Task]:
    return [sample_task(index) for index in range(algorithm.tasks_per_step)]


def _plan(algorithm: Algorithm, *, experts: bool, seed: int = 7) -> RolloutPlan:
    tasks = _tasks(algorithm)
    known = {task.id: sample_trajectory(f"expert-{task.id}", task=task, expert=True) for task in tasks}
    state = PlanState(step=2, seed=seed, experts=known.get) if experts else PlanState(step=2, seed=seed)
    return algorithm.plan(tasks, state)


def _group_of(*trajectories: Trajectory) -> Group:
    return Group(id="group", task_id=sample_task().id, trajectories=trajectories)


def _group() -> Group:
    cut_off = replace(sample_trajectory("cut off", reward=0.0, turns=4), status="truncated", status_reason="turn_limit")
    return _group_of(
        sample_trajectory("solved"),
        sample_trajectory("failed", reward=0.0, turns=2),
        sample_trajectory("anchored", turns=3, replayed=2),
        sample_trajectory("silent", reward=0.0, turns=0),
        cut_off,
    )


def _batch_rows() -> list[tuple[list[float], float]]:
    """Return (credit of each chunk, reward) for each of three trajectories."""
    return [([1.0, -0.5], 1.0), ([0.25], 0.0), ([-1.0, 0.0, 0.5], 1.0)]


def _batch(
    rows: list[tuple[list[float], float]], rule: UpdateRule, *, noise: float = -1.0, padding: int = 0
) -> TokenBatch:
    """Return a batch with one row for each trajectory; each chunk is two tokens, after one that is not trained.

    Optional fields are there if the rule asks for them. `noise` is what stands at positions outside of chunks.
    """
    torch = pytest.importorskip("torch")
    width = 1 + 3 * max(len(values) for values, _ in rows) + padding
    shape = (len(rows), width)
    chunk_of_token = torch.full(shape, -1)
    chunks = [(row, place, value) for row, (values, _) in enumerate(rows) for place, value in enumerate(values)]
    for index, (row, place, _) in enumerate(chunks):
        chunk_of_token[row, 2 + 3 * place : 4 + 3 * place] = index
    inside = chunk_of_token >= 0
    number = torch.arange(width, dtype=torch.float64).expand(shape)

    def logprobs(scale: float) -> "Tensor":
        outside = torch.full(shape, noise, dtype=torch.float64)
        values: Tensor = torch.where(inside, -0.3 - scale * (number % 5), outside)
        return values

    return TokenBatch(
        token_ids=torch.arange(width).expand(shape) % 7,
        policy_logprobs=logprobs(0.11).detach().requires_grad_(),
        old_logprobs=logprobs(0.10),
        behaviour_logprobs=logprobs(0.09),
        chunk_of_token=chunk_of_token,
        imitation_mask=torch.zeros(shape, dtype=torch.bool),
        chunk_credit=torch.tensor([value for _, _, value in chunks], dtype=torch.float64),
        chunk_trajectory=torch.tensor([row for row, _, _ in chunks], dtype=torch.int64),
        chunk_position=torch.tensor([place for _, place, _ in chunks], dtype=torch.int64),
        reward=torch.tensor([reward for _, reward in rows], dtype=torch.float64),
        reference_logprobs=logprobs(0.12) if rule.reference else None,
        entropies=-logprobs(0.2).detach().requires_grad_() if rule.entropy else None,
        values=logprobs(0.3).detach().requires_grad_() if rule.values else None,
        old_values=logprobs(0.25) if rule.values else None,
    )
