"""RL steps through TRL's GRPOTrainer: against our own loss in the torch backend, and against plain arithmetic."""

import logging
from dataclasses import replace

import pytest
import torch

from tumbler.contracts.algorithm import UpdateRule
from tumbler.contracts.batch import CreditedTrajectory
from tumbler.errors import RunError, TrajectoryError
from tumbler_algorithms.grpo.algorithm import GRPO
from tumbler_algorithms.grpo.settings import GRPOSettings
from tumbler_backends.training.trl.inputs import policy_inputs
from tumbler_backends.training.trl.rows import rollout_examples
from tumbler_backends.training.trl.settings import LossSettings

ADVANTAGES = (1.25, -0.75, 0.5, -1.5, 0.0)


@pytest.fixture
def rollouts(trajectory) -> list[CreditedTrajectory]:
    """Return ragged trajectories of one segment, with observations between their chunks."""
    shapes = [
        (19, [(5, 8), (11, 15)]),
        (31, [(4, 7), (9, 11), (18, 23)]),
        (6, [(0, 3), (5, 6)]),
        (25, [(20, 25)]),
        (14, [(3, 4), (6, 12)]),
    ]
    batch = []
    for index, ((length, spans), advantage) in enumerate(zip(shapes, ADVANTAGES, strict=True)):
        chunks = [{"segment": 0, "start": start, "end": end} for start, end in spans]
        record = trajectory(f"t{index}", segments=(length,), chunks=chunks, seed=index, temperature=0.8)
        batch.append(CreditedTrajectory(trajectory=record, credits=(advantage,) * len(chunks)))
    return batch


@pytest.fixture
def rewritten(trajectory) -> list[CreditedTrajectory]:
    """Return trajectories whose context was rewritten on the way."""
    batch = []
    for index, advantage in enumerate((1.0, -0.5)):
        chunks = [
            {"segment": 0, "start": 4, "end": 9},
            {"segment": 2, "start": 2, "end": 4},
            {"segment": 2, "start": 7, "end": 7 + index + 1},
        ]
        record = trajectory(f"r{index}", segments=(12, 5, 11), chunks=chunks, seed=index)
        batch.append(CreditedTrajectory(trajectory=record, credits=(advantage,) * 3))
    return batch


def grpo(**settings) -> GRPO:
    return GRPO(GRPOSettings(**settings))


CLIPPED = {"clip_low": 0.05, "clip_high": 0.1}
EPSILONS = {"epsilon": 0.05, "epsilon_high": 0.1}


@pytest.mark.parametrize(
    ("loss", "algorithm"),
    [
        ({"loss_type": "grpo"}, {"normalisation": "trajectory-mean"}),
        ({"loss_type": "dapo"}, {"normalisation": "token-mean"}),
        ({"loss_type": "bnpo"}, {"normalisation": "token-mean"}),
        (
            {"loss_type": "dr_grpo", "max_completion_length": 40},
            {"normalisation": "constant", "constant_length": 40},
        ),
        (
            {"loss_type": "grpo", "importance_sampling_level": "sequence"},
            {"normalisation": "trajectory-mean", "ratio_level": "trajectory"},
        ),
        ({"loss_type": "grpo", "delta": 1.3}, {"normalisation": "trajectory-mean", "dual_clip": 1.3}),
    ],
    ids=["grpo", "dapo", "bnpo", "dr_grpo", "sequence", "delta"],
)
@pytest.mark.parametrize("micro_batch_tokens", [10_000, 40])
async def test_steps_are_those_of_our_own_loss_in_the_torch_backend(
    loss, algorithm, micro_batch_tokens, start_trl, start_torch, rollouts, tensors_of
):
    slow = {"rl": {"learning_rate": 3e-4, "max_grad_norm": 0.5}}
    ours = await start_trl("rl", loss={**EPSILONS, **loss}, micro_batch_tokens=micro_batch_tokens, **slow)
    theirs = await start_torch("rl", **slow)
    method = grpo(epochs=2, minibatches=2, **CLIPPED, **algorithm)
    for step in range(2):
        reports = [await backend.step(rollouts, method) for backend in (ours, theirs)]
        assert reports[0].metrics["trl/clip_ratio/region_mean"] > 0
        # Where all ratios are clipped there is no gradient, and no step.
        assert reports[0].optimizer_steps == reports[1].optimizer_steps >= 3
        for report in reports:
            assert report.metrics["train/policy_version"] == step + 1
        for name in ("gradient_norm", "learning_rate", "tokens", "trainable_tokens", "entropy"):
            values = [report.metrics[f"train/{name}"] for report in reports]
            assert values[0] == pytest.approx(values[1], rel=1e-5), name
    weights = tensors_of(ours)
    for name, expected in tensors_of(theirs).items():
        torch.testing.assert_close(weights[name], expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("old_policy", ["recompute", "behaviour"])
async def test_the_loss_of_a_step_is_that_of_our_own(old_policy, start_trl, start_torch, rollouts):
    """The behaviour log-probabilities are made up, so that ratios lie on both sides of the clip."""
    seen = []
    for start, more in ((start_trl, {"loss": {"loss_type": "dapo"}}), (start_torch, {})):
        backend = await start("rl", **more)
        report = await backend.step(rollouts, grpo(normalisation="token-mean", old_policy=old_policy))
        assert report.metrics[f"train/old_policy_{old_policy}"] == 1
        seen.append(report.metrics)
    for name in ("train/loss", "train/gradient_norm"):
        assert seen[0][name] == pytest.approx(seen[1][name], rel=1e-6), name


async def test_segments_of_a_rewritten_context_are_rows_of_the_same_advantage(start_trl, start_torch, rewritten):
    """A mean over tokens does not see the rows; a mean over rows takes each segment for a sequence."""
    seen = []
    for start, more in ((start_trl, {"loss": {"loss_type": "dapo"}}), (start_torch, {})):
        backend = await start("rl", **more)
        report = await backend.step(rewritten, grpo(normalisation="token-mean", old_policy="behaviour"))
        seen.append(report.metrics)
    for name in ("train/loss", "train/gradient_norm", "train/tokens"):
        assert seen[0][name] == pytest.approx(seen[1][name], rel=1e-6), name
    backend = await start_trl("rl", loss={"loss_type": "grpo"})
    report = await backend.step(rewritten, grpo())
    assert report.metrics["train/loss"] == pytest.approx(-(1.0 + 1.0 - 0.5 - 0.5) / 4, rel=1e-5)


async def test_observations_change_nothing_but_the_context(start_trl, rollouts):
    """The same tokens with another value at a position that is not trained give another loss only where it is read."""
    examples = rollout_examples(rollouts)
    inputs = policy_inputs(
        [row for example in examples for row in example.rows], None, None, tokens=1, share=1.0, loss=LossSettings()
    )
    width = inputs["prompt_ids"].shape[1]
    for row, (tokens, mask) in enumerate(zip(inputs["completion_ids"], inputs["tool_mask"], strict=True)):
        record = rollouts[row].trajectory
        trained = {p for chunk in record.chunks for p in range(max(1, chunk.start), chunk.end)}
        assert {width + p for p in mask.nonzero().flatten().tolist()} == trained
        own = torch.cat([inputs["prompt_ids"][row], tokens])[: max(trained) + 1].tolist()
        assert own == list(record.segments[0].token_ids[: max(trained) + 1])


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
async def test_the_divergence_is_from_the_weights_with_which_the_phase_began(
    architecture, start_trl, rollouts, mixed_batch
):
    backend = await start_trl("sft", architecture=architecture, loss={"beta": 0.5})
    await backend.fit_sft(mixed_batch)
    backend.begin("rl", optimizer_steps=4)
    level = [
        replace(each, credits=(0.0,) * len(each.credits)) if index else each for index, each in enumerate(rollouts)
    ]
    first = await backend.step(level, grpo())
    assert first.metrics["trl/kl"] == pytest.approx(0.0, abs=1e-6)
    second = await backend.step(level, grpo())
    assert second.metrics["trl/kl"] > 1e-4


@pytest.mark.parametrize("mode", ["token_truncate", "token_mask", "sequence_truncate", "sequence_mask"])
async def test_the_sampling_correction_weighs_each_row_as_trl_does_for_vllm(mode, start_trl, rollouts):
    """At the first step all ratios of the policy are 1, so the loss is a weighted mean of advantages."""
    bounds = {"sampling_clip_max": 0.02, "sampling_clip_min": 1e-9}
    backend = await start_trl("rl", loss={"loss_type": "grpo", "sampling_correction": mode, **bounds})
    phase = backend._training._policy_phase(0.8)
    rows = [row for example in rollout_examples(rollouts) for row in example.rows]
    old = phase.old_logprobs(rows, behaviour=False)
    expected = 0.0
    for row in rows:
        trained = torch.tensor(row.mask, dtype=torch.bool)
        ratio = (old[row][trained] - torch.tensor(row.sampling_logprobs)[trained]).exp()
        if mode.startswith("sequence"):
            ratio = ratio.prod().expand(len(ratio))
        inside = (ratio <= 0.02) & (ratio >= 1e-9)
        weights = ratio.clamp(1e-9, 0.02) if mode.endswith("truncate") else ratio * inside
        expected -= row.advantage * float(weights.mean()) / len(rows)
    report = await backend.step(rollouts, grpo())
    assert expected != 0
    # The rows nearly cancel in the masked mean, and what is left of float32 is no more exact than this.
    assert report.metrics["train/loss"] == pytest.approx(expected, rel=1e-4, abs=1e-8)


@pytest.mark.parametrize(
    "loss",
    [
        {"loss_type": "cispo", "epsilon_high": 5.0},
        {"loss_type": "sapo"},
        {"loss_type": "luspo", "importance_sampling_level": "sequence"},
        {"loss_type": "vespo"},
        {"loss_type": "dapo", "off_policy_mask_threshold": 0.5},
    ],
    ids=["cispo", "sapo", "luspo", "vespo", "off-policy-mask"],
)
async def test_trls_other_losses_do_not_depend_on_the_micro_batches(loss, start_trl, rollouts):
    seen = []
    for tokens in (10_000, 40, 1):
        backend = await start_trl("rl", loss=loss, micro_batch_tokens=tokens)
        report = await backend.step(rollouts, grpo(old_policy="behaviour"))
        seen.append((report.metrics["train/loss"], report.metrics["train/gradient_norm"]))
    assert seen[0][1] > 0
    assert seen[1] == pytest.approx(seen[0], rel=1e-5)
    assert seen[2] == pytest.approx(seen[0], rel=1e-5)


async def test_trls_metrics_keep_their_names(start_trl, rollouts):
    backend = await start_trl("rl")
    report = await backend.step(rollouts, grpo(old_policy="behaviour"))
    assert report.metrics["trl/clip_ratio/region_mean"] > 0
    assert {"train/loss", "train/entropy", "train/seconds_total", "train/skipped_steps"} <= report.metrics.keys()


class Constant:
    """The same credit for all, and whatever else an algorithm may ask for."""

    tasks_per_step = 1

    def __init__(self, *, wants_experts=False, **rule) -> None:
        self.update_rule = UpdateRule(**rule)
        self.wants_experts = wants_experts


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"values": True}, "trains a value head"),
        ({"entropy": True}, "adds a term to the entropy"),
        ({"reference": True}, r"reads a reference policy .*`loss.beta`"),
        ({"wants_experts": True}, "imitates experts"),
        ({"old_policy": "snapshot"}, "from snapshots"),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
async def test_an_algorithm_that_asks_for_more_than_advantages_is_refused(wish, message, start_trl, rollouts):
    backend = await start_trl("rl")
    with pytest.raises(RunError, match=f"loss of Constant, which .*{message}.*; take an algorithm"):
        await backend.step(rollouts, Constant(**wish))


async def test_credit_of_several_values_for_trainable_chunks_is_refused(start_trl, rollouts, trajectory):
    backend = await start_trl("rl")
    uneven = [replace(rollouts[0], credits=(1.0, 0.5))]
    with pytest.raises(RunError, match=r"the chunks of trajectory 't0' have 2 different credits, from 0\.5 to 1"):
        await backend.step(uneven, grpo())
    chunks = [
        {"segment": 0, "start": 2, "end": 3, "replayed": True, "sampled": False},
        {"segment": 0, "start": 5, "end": 7},
    ]
    record = trajectory("anchored", segments=(9,), chunks=chunks)
    with pytest.raises(TrajectoryError, match="has 2 chunk"):
        await backend.step([CreditedTrajectory(trajectory=record, credits=(1.0,))], grpo())
    report = await backend.step([CreditedTrajectory(trajectory=record, credits=(0.0, 1.0))], grpo())
    assert report.metrics["train/trainable_tokens"] == 2


async def test_rollouts_of_several_temperatures_are_refused(start_trl, rollouts, rewritten):
    backend = await start_trl("rl")
    with pytest.raises(RunError, match=r"temperatures \[0.8, 1.0\]"):
        await backend.step([*rollouts, *rewritten], grpo())
    await backend.step(rollouts, grpo())
    with pytest.raises(RunError, match=r"temperature 1\.0 came in a phase that began with 0\.8"):
        await backend.step(rewritten, grpo())


async def test_it_says_once_that_the_algorithms_own_loss_is_ignored(start_trl, rollouts, caplog):
    backend = await start_trl("rl")
    with caplog.at_level(logging.WARNING, logger="tumbler_backends.training.trl"):
        for _ in range(2):
            await backend.step(rollouts, grpo())
    assert [each.getMessage() for each in caplog.records] == [
        "TRL's loss 'dapo' is trained in place of the one of GRPO, whose settings it ignores"
    ]


async def test_a_batch_that_teaches_nothing_takes_no_step(start_trl, rollouts, tensors_of):
    backend = await start_trl("rl")
    before = tensors_of(backend)
    level = [replace(each, credits=(0.0,) * len(each.credits)) for each in rollouts]
    lost = [
        replace(
            each,
            trajectory=replace(each.trajectory, status="infra_failed", status_reason="gone", reward=None, success=None),
        )
        for each in rollouts
    ]
    for batch in (level, lost, []):
        report = await backend.step(batch, grpo())
        assert (report.optimizer_steps, report.metrics["train/empty_steps"]) == (0, 1)
    assert backend.version == 0
    after = tensors_of(backend)
    assert all(torch.equal(before[name], after[name]) for name in before)


async def test_steps_that_are_not_finite_are_skipped_and_end_the_run_in_the_end(start_trl, rollouts, tensors_of):
    backend = await start_trl("rl", max_skipped_steps=1)
    before = tensors_of(backend)
    wild = [replace(each, credits=(float("inf"),) * len(each.credits)) for each in rollouts]
    report = await backend.step(wild, grpo())
    assert (report.optimizer_steps, report.metrics["train/skipped_steps"]) == (0, 1)
    after = tensors_of(backend)
    assert all(torch.equal(before[name], after[name]) for name in before)
    with pytest.raises(RunError, match=r"the loss of 2 optimizer step\(s\) in a row was not finite"):
        await backend.step(wild, grpo())
