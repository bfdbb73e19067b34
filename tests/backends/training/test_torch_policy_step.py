"""The algorithm's steps of the torch training backend, against a plain reference."""

import math
import threading
from dataclasses import replace

import pytest
import torch

from tumbler.contracts.batch import CreditedTrajectory, LossOutput
from tumbler.errors import RunError, TrajectoryError

CREDITS = [(0.5, -1.0, 2.0), (0.1, 0.2, 0.3, -0.75), (1.5, 9.0, 0.25), (-0.5,)]


@pytest.fixture
def credited(mixed_batch) -> list[CreditedTrajectory]:
    return [CreditedTrajectory(trajectory=t, credits=c) for t, c in zip(mixed_batch, CREDITS, strict=True)]


def assert_equal_weights(ours, theirs, atol=0.0) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=atol)


async def test_two_steps_move_the_weights_as_the_plain_reference(
    start, credited, mixed_batch, reference, algorithm, weights_of, model_folder
):
    backend = await start("rl", architecture="gpt2")
    plain = reference(model_folder("gpt2"))
    for _ in range(2):
        report = await backend.step(credited, algorithm())
        loss = plain.credit_loss(mixed_batch, CREDITS)
        assert report.metrics["train/loss"] == pytest.approx(loss.item(), rel=1e-6)
        assert report.metrics["train/gradient_norm"] == pytest.approx(plain.step(loss), rel=1e-6)
    assert_equal_weights(weights_of(backend), plain.model.state_dict(), atol=1e-5)
    assert backend.version == 2


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-5)])
async def test_a_step_does_not_depend_on_the_micro_batches(dtype, tolerance, start, credited, algorithm, weights_of):
    seen = []
    for tokens in (1, 70, 10_000):
        backend = await start("rl", architecture="gpt2", dtype=dtype, micro_batch_tokens=tokens)
        method = algorithm(epochs=2, minibatches=2)
        reports = [await backend.step(credited, method) for _ in range(2)]
        seen.append((len(method.seen), reports, weights_of(backend)))
    assert seen[0][0] > seen[1][0] >= seen[2][0] == 8
    for _, reports, weights in seen[1:]:
        for report, first in zip(reports, seen[0][1], strict=True):
            for name in ("train/loss", "train/gradient_norm", "train/entropy", "test/credit"):
                assert report.metrics[name] == pytest.approx(first.metrics[name], rel=10 * tolerance), name
        if dtype == "float64":
            assert_equal_weights(weights, seen[0][2], atol=tolerance)


async def test_the_loss_sees_chunks_credits_rewards_and_masks_where_they_belong(start, credited, algorithm):
    backend = await start("rl")
    method = algorithm()
    await backend.step(credited, method)
    (batch,) = method.seen
    assert sorted(batch.reward.tolist()) == [-0.5, 0.25, 1.0, 1.0]
    owner = batch.reward[batch.chunk_trajectory].tolist()
    seen = sorted(zip(owner, batch.chunk_credit.tolist(), batch.chunk_position.tolist(), strict=True))
    assert seen == [
        (-0.5, -0.75, 3),
        (0.25, -0.5, 0),
        (1.0, -1.0, 1),
        (1.0, 0.25, 2),
        (1.0, 0.5, 0),
        (1.0, 1.5, 0),
        (1.0, 2.0, 2),
    ]
    assert int(batch.imitation_mask.sum()) == 3
    assert not (batch.imitation_mask & (batch.chunk_of_token >= 0)).any()
    assert (batch.policy_logprobs[:, 0] == 0).all()
    elsewhere = (batch.chunk_of_token < 0) & ~batch.imitation_mask
    for values in (batch.policy_logprobs, batch.old_logprobs, batch.behaviour_logprobs):
        assert (values[elsewhere] == 0).all()
        assert values.shape == batch.token_ids.shape


async def test_each_chunk_carries_its_own_tokens_and_behaviour_logprobs(start, credited, algorithm):
    backend = await start("rl", micro_batch_tokens=1)
    method = algorithm()
    await backend.step(credited, method)
    expected = {}
    for each in credited:
        for position, chunk in enumerate(each.trajectory.chunks):
            if chunk.trainable:
                tokens = each.trajectory.segments[chunk.segment].token_ids[chunk.start : chunk.end]
                expected[tokens] = (position, each.credits[position], chunk.behaviour_logprobs)
    seen = {}
    for batch in method.seen:
        assert len(batch.reward) == 1
        for chunk in range(len(batch.chunk_credit)):
            own = batch.chunk_of_token == chunk
            seen[tuple(batch.token_ids[own].tolist())] = (
                int(batch.chunk_position[chunk]),
                float(batch.chunk_credit[chunk]),
                tuple(batch.behaviour_logprobs[own].tolist()),
            )
    assert seen.keys() == expected.keys()
    for tokens, (position, credit, logprobs) in expected.items():
        assert seen[tokens][:2] == (position, credit)
        assert seen[tokens][2] == pytest.approx(logprobs)


async def test_log_probabilities_are_those_of_the_header_temperature(
    start, credited, algorithm, reference, model_folder
):
    backend = await start("rl")
    method = algorithm()
    plain = reference(model_folder("llama"))
    await backend.step(credited[1:2], method)
    (batch,) = method.seen
    record = credited[1].trajectory
    expected = [each.item() for each in plain.logprobs(record, record.chunks[3], temperature=0.7)]
    assert batch.policy_logprobs[batch.chunk_of_token == 0].tolist() == pytest.approx(expected, rel=1e-6)


async def test_a_greedy_sampler_is_scored_at_temperature_one(start, trajectory, algorithm):
    chunks = [{"segment": 0, "start": 3, "end": 6}]
    seen = []
    for temperature in (0.0, 1.0):
        backend = await start("rl")
        method = algorithm()
        record = trajectory("a", segments=(8,), chunks=chunks, temperature=temperature)
        await backend.step([CreditedTrajectory(trajectory=record, credits=(1.0,))], method)
        seen.append(method.seen[0].policy_logprobs)
    assert torch.equal(*seen)


async def test_recompute_in_a_single_step_is_the_forward_pass_itself(start, credited, algorithm):
    backend = await start("rl", micro_batch_tokens=60)
    method = algorithm(old_policy="recompute")
    report = await backend.step(credited, method)
    assert report.metrics["train/old_policy_recompute"] == 1
    for batch in method.seen:
        assert torch.equal(batch.old_logprobs, batch.policy_logprobs.detach())
        assert not batch.old_logprobs.requires_grad


async def test_recompute_over_epochs_is_taken_before_the_weights_move(start, credited, algorithm):
    backend = await start("rl")
    method = algorithm(old_policy="recompute", epochs=2)
    report = await backend.step(credited, method)
    first, second = method.seen
    assert report.optimizer_steps == 2
    assert backend.version == 1
    torch.testing.assert_close(first.old_logprobs, first.policy_logprobs.detach(), rtol=0, atol=1e-6)
    assert torch.equal(second.old_logprobs, first.old_logprobs)
    assert (second.policy_logprobs - first.policy_logprobs).abs().max().item() > 0.01


async def test_behaviour_takes_the_inference_engine_for_both(start, credited, algorithm):
    backend = await start("rl")
    method = algorithm(old_policy="behaviour")
    report = await backend.step(credited, method)
    assert report.metrics["train/old_policy_behaviour"] == 1
    assert torch.equal(method.seen[0].old_logprobs, method.seen[0].behaviour_logprobs)


@pytest.mark.parametrize("architecture", ["llama", "llama-untied"])
async def test_snapshot_scores_each_chunk_with_the_weights_that_sampled_it(architecture, start, trajectory, algorithm):
    def batch_of(first: int, second: int) -> list[CreditedTrajectory]:
        chunks = [
            {"segment": 0, "start": 3, "end": 6, "policy_version": first},
            {"segment": 0, "start": 9, "end": 12, "policy_version": second},
        ]
        return [CreditedTrajectory(trajectory=trajectory("a", segments=(14,), chunks=chunks), credits=(1.0, 1.0))]

    backend = await start("rl", architecture=architecture, snapshots=2)
    methods = [algorithm(old_policy="snapshot") for _ in range(3)]
    await backend.step(batch_of(0, 0), methods[0])
    backend.weights()
    await backend.step(batch_of(1, 1), methods[1])
    backend.weights()
    await backend.step(batch_of(1, 2), methods[2])
    under = [method.seen[0].policy_logprobs.detach() for method in methods]
    for version, method in enumerate(methods[:2]):
        assert torch.equal(method.seen[0].old_logprobs, under[version])
    old = methods[2].seen[0].old_logprobs
    torch.testing.assert_close(old[0, 3:6], under[1][0, 3:6], rtol=0, atol=1e-6)
    torch.testing.assert_close(old[0, 9:12], under[2][0, 9:12], rtol=0, atol=1e-6)
    assert (under[1] - under[2]).abs().max().item() > 0.01
    with pytest.raises(RunError, match=r"version\(s\) \[0\].*keeps \[1, 2, 3\]; raise its setting `snapshots`"):
        await backend.step(batch_of(0, 2), algorithm(old_policy="snapshot"))


async def test_a_snapshot_of_the_current_version_needs_no_copy(start, credited, algorithm):
    backend = await start("rl", snapshots=0)
    method = algorithm(old_policy="snapshot", epochs=2)
    await backend.step(credited, method)
    trained = method.seen[0].chunk_of_token >= 0
    old, policy = method.seen[0].old_logprobs, method.seen[0].policy_logprobs.detach()
    torch.testing.assert_close(old[trained], policy[trained], rtol=0, atol=1e-6)


async def test_minibatches_deal_each_trajectory_once_in_each_epoch(start, credited, algorithm):
    backend = await start("rl", micro_batch_tokens=1, steps=4)
    method = algorithm(epochs=2, minibatches=2)
    report = await backend.step(credited, method)
    assert report.optimizer_steps == 4
    rewards = sorted(credited_.trajectory.reward for credited_ in credited)
    for epoch in (method.seen[:4], method.seen[4:]):
        assert sorted(float(batch.reward) for batch in epoch) == rewards


async def test_more_minibatches_than_trajectories_take_a_step_for_each_trajectory(start, credited, algorithm):
    backend = await start("rl")
    report = await backend.step(credited[:2], algorithm(minibatches=5))
    assert report.optimizer_steps == 2


async def test_equal_seeds_give_equal_weights_and_others_do_not(start, credited, algorithm, weights_of):
    results = []
    for seed in (3, 3, 4, 5):
        backend = await start("rl", seed=seed)
        await backend.step(credited, algorithm(minibatches=3))
        results.append(weights_of(backend)["model.norm.weight"])
    assert torch.equal(results[0], results[1])
    assert any(not torch.equal(results[0], other) for other in results[2:])


async def test_metrics_and_samples_are_added_up_over_micro_batches(start, credited, algorithm):
    backend = await start("rl", micro_batch_tokens=1)
    report = await backend.step(credited, algorithm())
    by_token = [0.5] * 3 + [-1.0] * 4 + [2.0] * 3 + [-0.75] * 5 + [1.5] + [0.25] * 4 + [-0.5] * 4
    assert report.metrics["test/credit"] == pytest.approx(sum(by_token) / len(by_token))
    assert sorted(report.samples["test/credits"]) == sorted(by_token)
    assert report.metrics["train/trainable_tokens"] == len(by_token)
    assert report.metrics["train/trajectories"] == 4
    assert report.metrics["train/policy_version"] == 1
    assert 0 < report.metrics["train/entropy"] < math.log(23)
    assert {"train/seconds_forward", "train/seconds_backward", "train/seconds_optimizer"} <= report.metrics.keys()


class Scaled:
    """Another algorithm, its losses multiplied by the next of some factors."""

    def __init__(self, inner, *, totals=(1.0,), denominators=(1.0,)) -> None:
        self.update_rule = inner.update_rule
        self._inner = inner
        self._totals = list(totals)
        self._denominators = list(denominators)

    def loss(self, batch) -> LossOutput:
        output = self._inner.loss(batch)
        total = self._totals.pop(0) if len(self._totals) > 1 else self._totals[0]
        share = self._denominators.pop(0) if len(self._denominators) > 1 else self._denominators[0]
        return replace(output, total=output.total * total, denominator=output.denominator * share)


@pytest.mark.parametrize("wrong", [{"totals": (0.0,)}, {"denominators": (0.0,)}])
async def test_a_step_that_teaches_nothing_is_not_taken(wrong, start, credited, algorithm, weights_of):
    backend = await start("rl")
    await backend.step(credited, algorithm())
    before = weights_of(backend)
    report = await backend.step(credited, Scaled(algorithm(), **wrong))
    assert (report.optimizer_steps, report.metrics["train/empty_steps"], backend.version) == (0, 1, 1)
    assert_equal_weights(weights_of(backend), before)


async def test_trajectories_without_verdict_or_trainable_token_are_left_out(start, credited, trajectory, algorithm):
    backend = await start("rl")
    chunks = [{"segment": 0, "start": 3, "end": 6}]
    failed = trajectory(
        "f", segments=(8,), chunks=chunks, status="infra_failed", status_reason="died", reward=None, success=None
    )
    masked = trajectory("m", segments=(8,), chunks=[{**chunks[0], "trainable": False}])
    unusable = [CreditedTrajectory(trajectory=each, credits=(1.0,)) for each in (failed, masked)]
    report = await backend.step(unusable, algorithm())
    assert (report.optimizer_steps, report.metrics["train/empty_steps"]) == (0, 1)
    report = await backend.step([*credited, *unusable], algorithm())
    assert (report.optimizer_steps, report.metrics["train/trajectories_left_out"]) == (1, 2)


async def test_credits_that_do_not_match_the_chunks_are_refused(start, credited, algorithm):
    backend = await start("rl")
    with pytest.raises(TrajectoryError, match=r"'two-segments' has 3 chunk\(s\) but 1 credit"):
        await backend.step([replace(credited[0], credits=(1.0,))], algorithm())


@pytest.mark.parametrize("factor", [math.nan, math.inf])
async def test_steps_that_are_not_finite_are_skipped_and_too_many_end_the_run(
    factor, start, credited, algorithm, weights_of
):
    backend = await start("rl", max_skipped_steps=1, micro_batch_tokens=1)
    before = weights_of(backend)
    report = await backend.step(credited, Scaled(algorithm(), totals=(1.0, factor, 1.0)))
    assert (report.optimizer_steps, report.metrics["train/skipped_steps"], backend.version) == (0, 1, 0)
    assert all(math.isfinite(value) for value in report.metrics.values())
    assert_equal_weights(weights_of(backend), before)
    good = await backend.step(credited, algorithm())
    assert good.optimizer_steps == 1
    await backend.step(credited, Scaled(algorithm(), totals=(factor,)))
    with pytest.raises(RunError, match=r"loss of 2 optimizer step\(s\) in a row was not finite"):
        await backend.step(credited, Scaled(algorithm(), totals=(factor,)))
    assert backend.version == 1


async def test_a_gradient_that_is_not_finite_is_skipped_though_the_loss_is(start, credited, algorithm, weights_of):
    class Poisoned(algorithm):
        def loss(self, batch) -> LossOutput:
            output = super().loss(batch)
            # The root of 0 has no slope: the sum is finite, its gradient is not.
            return replace(output, total=output.total + (output.total * 0).abs().sqrt())

    backend = await start("rl", max_skipped_steps=0)
    before = weights_of(backend)
    with pytest.raises(RunError, match="gradient of 1 optimizer step"):
        await backend.step(credited, Poisoned())
    assert_equal_weights(weights_of(backend), before)


async def test_an_algorithm_that_raises_leaves_no_gradient_behind(start, credited, algorithm, weights_of):
    class Raising(algorithm):
        def loss(self, batch) -> LossOutput:
            if self.seen:
                raise ValueError("broken")
            return super().loss(batch)

    tried = await start("rl", micro_batch_tokens=1)
    fresh = await start("rl", micro_batch_tokens=1)
    with pytest.raises(ValueError, match="broken"):
        await tried.step(credited, Raising())
    for backend in (tried, fresh):
        await backend.step(credited, algorithm())
    assert_equal_weights(weights_of(tried), weights_of(fresh))


async def test_all_torch_work_runs_off_the_event_loop(start, credited, algorithm):
    names = set()

    class Listening(algorithm):
        def loss(self, batch) -> LossOutput:
            names.add(threading.current_thread().name)
            return super().loss(batch)

    backend = await start("rl")
    for _ in range(3):
        await backend.step(credited, Listening())
    assert names == {"tumbler-training"}
