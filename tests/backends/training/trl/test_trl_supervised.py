"""Supervised steps through TRL's SFTTrainer are those of the torch backend."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

MASKED = {"errored": True}, {"relevant": False}


async def gradients(backend, folder: Path) -> list[Tensor]:
    """Return the clipped gradient of the only step so far, by parameter: a multiple of AdamW's first moment."""
    await backend.save(folder)
    state = torch.load(folder / "state.pt", weights_only=True)
    optimizer = (state.get("optimization") or state["phase"])["optimizer"]
    return [each["exp_avg"] for _, each in sorted(optimizer["state"].items())]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("micro_batch_tokens", [10_000, 30])
async def test_a_supervised_step_has_the_loss_and_gradient_of_the_torch_backend(
    architecture, micro_batch_tokens, start_trl, start_torch, mixed_batch, tmp_path
):
    ours = await start_trl("sft", architecture=architecture, micro_batch_tokens=micro_batch_tokens)
    theirs = await start_torch("sft", architecture=architecture)
    reports = [await backend.fit_sft(mixed_batch) for backend in (ours, theirs)]
    for name in ("loss", "gradient_norm", "entropy"):
        values = [report.metrics[f"train/{name}"] for report in reports]
        assert values[0] == pytest.approx(values[1], rel=1e-6), name
    for name in ("tokens", "trainable_tokens", "trajectories", "learning_rate", "policy_version"):
        assert reports[0].metrics[f"train/{name}"] == reports[1].metrics[f"train/{name}"]
    ours_gradients, theirs_gradients = [
        await gradients(backend, tmp_path / name) for name, backend in (("ours", ours), ("theirs", theirs))
    ]
    largest = max(float(each.abs().max()) for each in theirs_gradients)
    for gradient, expected in zip(ours_gradients, theirs_gradients, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=0, atol=5e-6 * largest)


async def test_the_weights_go_the_way_of_the_torch_backend(start_trl, start_torch, mixed_batch, tensors_of):
    ours, theirs = [await start("sft") for start in (start_trl, start_torch)]
    for _ in range(3):
        reports = [await backend.fit_sft(mixed_batch) for backend in (ours, theirs)]
        assert reports[0].metrics["train/loss"] == pytest.approx(reports[1].metrics["train/loss"], rel=1e-5)
    assert ours.version == theirs.version == 3
    weights = tensors_of(ours)
    # AdamW divides by the root of the second moment, which magnifies rounding where a gradient is all but 0.
    for name, expected in tensors_of(theirs).items():
        torch.testing.assert_close(weights[name], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("masked", MASKED, ids=["errored", "irrelevant"])
async def test_masked_chunks_stay_in_the_context_but_not_in_the_loss(masked, start_trl, trajectory):
    chunks = [{"segment": 0, "start": 3, "end": 6, **masked}, {"segment": 0, "start": 8, "end": 10}]
    record = trajectory("a", segments=(12,), chunks=chunks)
    losses = []
    for kept in (record.chunks, record.chunks[1:]):
        backend = await start_trl("sft")
        report = await backend.fit_sft([replace(record, chunks=kept)])
        assert report.metrics["train/trainable_tokens"] == 2
        assert report.metrics["train/tokens"] == 10
        losses.append(report.metrics["train/loss"])
    assert losses[0] == losses[1] > 0


async def test_the_first_token_of_a_segment_is_not_trained_since_nothing_predicts_it(start_trl, trajectory):
    backend = await start_trl("sft")
    chunks = [{"segment": 0, "start": 0, "end": 1}, {"segment": 1, "start": 0, "end": 3}]
    report = await backend.fit_sft([trajectory("a", segments=(4, 4), chunks=chunks)])
    assert report.metrics["train/trainable_tokens"] == 2


async def test_demonstrations_that_are_all_masked_take_no_step(start_trl, trajectory):
    backend = await start_trl("sft")
    chunks = [{"segment": 0, "start": 3, "end": 6, "errored": True}]
    report = await backend.fit_sft([trajectory("a", segments=(9,), chunks=chunks)])
    assert (report.optimizer_steps, backend.version) == (0, 0)
    assert report.metrics["train/trajectories_left_out"] == 1
    assert "train/loss" not in report.metrics
