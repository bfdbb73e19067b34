"""PPO's credit and generalised advantage estimation: nothing leaks, and no reward is lost."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tumbler.contracts.algorithm import Group
from tumbler.errors import ContractError
from tumbler_algorithms.parts.sequences import discounted_sums, token_line
from tumbler_algorithms.ppo.advantages import generalised_advantages
from tumbler_algorithms.ppo.algorithm import PPO
from tumbler_algorithms.ppo.settings import PPOSettings

ragged = settings(max_examples=30)


def credit(*trajectories, **fields):
    return PPO(PPOSettings(**fields)).credit(Group(id="g", task_id="task", trajectories=trajectories))


def estimate(batch, gamma=0.9, lambda_=0.8):
    """Advantage and return of each trained token, by its id."""
    pair = generalised_advantages(batch, batch.old_values, gamma=gamma, lambda_=lambda_)
    inside = batch.chunk_of_token >= 0
    assert not any(each[~inside].any() for each in pair)
    return [dict(zip(batch.token_ids[inside].tolist(), each[inside].tolist(), strict=True)) for each in pair]


def near(value, expected):
    return value == pytest.approx(expected, rel=1e-9, abs=1e-9)


@ragged
@given(data=st.data(), gamma=st.sampled_from([1.0, 0.9]), lambda_=st.sampled_from([0.0, 0.6, 1.0]))
def test_advantages_are_those_of_a_loop_over_the_tokens(batches, data, gamma, lambda_):
    plain, batch = data.draw(batches.token_batches())
    advantages, returns = estimate(batch, gamma, lambda_)
    for trajectory in plain:
        following = expected = 0.0
        for run in reversed(trajectory.chunks):
            for token in reversed(run.tokens):
                reward = run.credit if token is run.tokens[-1] else 0.0
                following = reward + gamma * expected - token.old_value + gamma * lambda_ * following
                expected = token.old_value
                assert near(advantages[token.id], following)
                assert near(returns[token.id], following + token.old_value)


def test_a_trajectory_of_thousands_of_tokens_is_estimated_as_exactly(batches):
    plain = batches.fill(
        ((tuple(("chunk", 613) for _ in range(5)), (("other", 9), ("chunk", 700))), ((("chunk", 3),),))
    )
    advantages, _ = estimate(batches.tensors(plain), gamma=1.0, lambda_=1.0)
    # With γ = λ = 1 an advantage is the sum of the rewards to come, less the value.
    for trajectory in plain:
        to_come = 0.0
        for run in reversed(trajectory.chunks):
            to_come += run.credit
            assert all(near(advantages[token.id], to_come - token.old_value) for token in run.tokens)


def test_a_reward_in_the_middle_of_a_trajectory_reaches_all_tokens_before_it_and_none_after(batches):
    plain = batches.fill((((("chunk", 2), ("other", 3), ("chunk", 3)), (("chunk", 2),)),))
    batch = batches.tensors(plain)
    first, second, third = plain[0].chunks
    paid = replace(batch, chunk_credit=batch.chunk_credit + torch.tensor([0.0, 1.0, 0.0]))
    before, after = estimate(batch)[0], estimate(paid)[0]
    gains = [after[token.id] - before[token.id] for run in (first, second, third) for token in run.tokens]
    assert near(gains, [0.72**4, 0.72**3, 0.72**2, 0.72, 1.0, 0.0, 0.0])


def test_values_where_nothing_is_trained_never_leak(batches):
    plain = batches.fill((((("other", 2), ("expert", 3), ("chunk", 2), ("other", 2), ("chunk", 2)), (("other", 3),)),))
    batch = batches.tensors(plain)
    outside = batch.chunk_of_token < 0
    spoilt = replace(
        batch,
        old_values=batch.old_values.masked_fill(outside, math.nan),
        values=batch.values.detach().masked_fill(outside, math.inf).requires_grad_(),
    )
    algorithm = PPO(PPOSettings())
    clean, dirty = algorithm.loss(batch), algorithm.loss(spoilt)
    assert near(dirty.total.item(), clean.total.item())
    assert batches.gradients(spoilt, dirty, of="values") == batches.gradients(batch, clean, of="values")
    assert not torch.autograd.grad(dirty.total, spoilt.values)[0][outside].any()


def test_masking_a_token_changes_no_advantage_of_the_others(batches):
    plain = batches.fill((((("chunk", 3), ("chunk", 2)),),), mismatch=0.0)
    batch = batches.tensors(plain)
    # The reward of the first chunk is that of its third token, which is masked.
    batch = replace(batch, behaviour_logprobs=batch.old_logprobs - torch.tensor([0.0, 0.0, 5.0, 0.0, 0.0]))
    whole, masked = (
        batches.gradients(batch, PPO(PPOSettings(normalisation="sum", correction={"mask": level})).loss(batch))
        for level in ("none", "token")
    )
    assert whole[3] != 0
    assert masked == {**whole, 3: 0.0}


@ragged
@given(data=st.data())
def test_the_policy_has_no_gradient_through_values_nor_the_values_through_ratios(batches, data):
    _, batch = data.draw(batches.token_batches())
    moved = replace(batch, policy_logprobs=(batch.policy_logprobs.detach() + 0.05).requires_grad_())
    algorithm = PPO(PPOSettings())
    one, other = (batches.gradients(each, algorithm.loss(each), of="values") for each in (batch, moved))
    assert one == other
    changed = replace(batch, values=(batch.values.detach() * 2 + 1).requires_grad_())
    one, other = (batches.gradients(each, algorithm.loss(each)) for each in (batch, changed))
    assert one == other


def test_a_value_that_moved_past_its_bound_is_pushed_no_further(batches):
    plain = batches.fill((((("chunk", 3),),),))
    batch = batches.tensors(plain)
    # All returns are 1: far above the old values, which are 0 but for the last.
    batch = replace(
        batch,
        chunk_credit=batch.chunk_credit.new_ones(1),
        old_values=batch.old_values.new_zeros(1, 3),
        values=batch.values.new_tensor([[0.1, 0.5, -0.5]]).requires_grad_(),
    )
    rule = {"gae_lambda": 1.0, "normalisation": "sum", "value_weight": 1.0}
    found = batches.gradients(batch, PPO(PPOSettings(value_clip=0.2, **rule)).loss(batch), of="values")
    assert near(list(found.values()), [2 * (0.1 - 1), 0.0, 2 * (-0.5 - 1)])
    free = batches.gradients(batch, PPO(PPOSettings(value_clip=None, **rule)).loss(batch), of="values")
    assert near(list(free.values()), [2 * (0.1 - 1), 2 * (0.5 - 1), 2 * (-0.5 - 1)])


def test_a_batch_without_values_is_refused_with_what_to_do(batches):
    batch = batches.tensors(batches.fill((((("chunk", 3),),),)))
    for missing in ("values", "old_values"):
        with pytest.raises(ContractError, match=r"value head .* grpo"):
            PPO(PPOSettings()).loss(replace(batch, **{missing: None}))


def test_every_turns_reward_is_the_credit_of_its_chunk_and_the_final_one_of_the_last(batches):
    record = batches.trajectory(1.0, turns=(0.25, 0.0, 0.5))
    assert credit(record) == [[0.25, 0.0, 1.5]]
    assert credit(record, turn_rewards="only") == [[0.25, 0.0, 0.5]]
    assert credit(record, turn_rewards="ignore") == [[0.0, 0.0, 1.0]]
    assert credit(batches.trajectory(0.0, turns=(0.0, 0.0)), failure_reward=-1.0) == [[0.0, -1.0]]


def test_rewards_of_chunks_that_are_not_trained_go_to_the_one_before(batches):
    record = batches.trajectory(1.0, turns=(0.1, 0.2, 0.3, 0.4), replayed=1)
    aborted = replace(record.chunks[3], trainable=False)
    record = replace(record, chunks=(*record.chunks[:3], aborted))
    (found,) = credit(record)
    assert near(found, [0.0, 0.2, 0.3 + 0.4 + 1.0, 0.0])


def test_trajectories_without_a_verdict_have_no_credit(batches):
    failed = batches.trajectory(None, turns=(1.0, 1.0), status="infra_failed", status_reason="gone")
    assert credit(failed, batches.trajectory(1.0, turns=())) == [[0.0, 0.0], []]


@ragged
@given(data=st.data(), discount=st.sampled_from([0.0, 0.5, 1.0]))
def test_discounted_sums_stay_within_a_trajectory(batches, data, discount):
    plain, batch = data.draw(batches.token_batches())
    line = token_line(batch)
    ids = line.take(batch.token_ids).tolist()
    order = [[token.id for run in each.chunks for token in run.tokens] for each in plain]
    # The trajectories may come in any order, each in one piece.
    assert sorted(ids) == sorted(token for each in order for token in each)
    sums = dict(zip(ids, discounted_sums(line.take(batch.token_ids), line, discount).tolist(), strict=True))
    for each in order:
        following = 0.0
        for token in reversed(each):
            following = token + discount * following
            assert near(sums[token], following)
