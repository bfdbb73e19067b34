"""Supervised steps of the torch training backend, against a plain reference."""

import asyncio

import pytest
import torch
from pydantic import ValidationError

from tumbler.contracts.training import TrainingBackend
from tumbler.contracts.values import ToolCall
from tumbler.errors import RunError
from tumbler.run.relevance import relevant_chunks
from tumbler_backends.training.torch.backend import TorchTraining
from tumbler_backends.training.torch.settings import OptimizerSettings, TorchTrainingSettings


def assert_equal_weights(ours, theirs, **tolerance) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], msg=lambda text, name=name: f"{name}: {text}", **tolerance)


# RMS norms and rotary embeddings compute in float32 whatever the weights' type; GPT-2 has neither. AdamW divides
# by the root of the second moment, which magnifies rounding where a gradient is all but 0.
@pytest.mark.parametrize(
    ("architecture", "tolerance", "weight_tolerance"),
    [
        ("gpt2", 1e-10, 1e-7),
        ("llama", 1e-6, 1e-4),
        ("llama-untied", 1e-6, 1e-4),
        ("qwen2", 1e-6, 1e-4),
        ("gemma2", 1e-6, 1e-4),
    ],
)
async def test_two_supervised_steps_move_the_weights_as_the_plain_reference(
    architecture, tolerance, weight_tolerance, start, mixed_batch, reference, weights_of, model_folder
):
    backend = await start("sft", architecture=architecture)
    plain = reference(model_folder(architecture))
    for _ in range(2):
        report = await backend.fit_sft(mixed_batch)
        loss = plain.sft_loss(mixed_batch)
        assert report.metrics["train/loss"] == pytest.approx(loss.item(), rel=tolerance)
        assert report.metrics["train/gradient_norm"] == pytest.approx(plain.step(loss), rel=tolerance)
        assert report.optimizer_steps == 1
    assert_equal_weights(weights_of(backend), plain.model.state_dict(), rtol=0, atol=weight_tolerance)
    assert backend.version == 2


@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-6), ("float32", 1e-5)])
async def test_a_supervised_step_does_not_depend_on_the_micro_batches(dtype, tolerance, start, mixed_batch, weights_of):
    seen = []
    # A learning rate at which rounding, magnified by AdamW, stays below the bound while the step does not.
    settings = OptimizerSettings(learning_rate=1e-4, max_grad_norm=0.5)
    for tokens in (1, 60, 10_000):
        backend = await start("sft", dtype=dtype, micro_batch_tokens=tokens, sft=settings)
        before = weights_of(backend)
        report = await backend.fit_sft(mixed_batch)
        after = weights_of(backend)
        moved = {name: after[name] - before[name] for name in after}
        assert max(float(each.abs().max()) for each in moved.values()) > 5 * tolerance
        seen.append((report, after))
    for report, weights in seen[1:]:
        assert report.metrics["train/loss"] == pytest.approx(seen[0][0].metrics["train/loss"], rel=tolerance)
        norm = seen[0][0].metrics["train/gradient_norm"]
        assert report.metrics["train/gradient_norm"] == pytest.approx(norm, rel=tolerance)
        assert_equal_weights(weights, seen[0][1], rtol=0, atol=tolerance)


async def test_masked_chunks_stay_in_the_context_but_not_in_the_loss(start, trajectory):
    chunks = [{"segment": 0, "start": 3, "end": 6, "errored": True}, {"segment": 0, "start": 8, "end": 10}]
    backend = await start("sft")
    report = await backend.fit_sft([trajectory("a", segments=(12,), chunks=chunks)])
    assert report.metrics["train/trainable_tokens"] == 2
    assert report.metrics["train/tokens"] == 10


async def test_turns_that_a_rule_finds_irrelevant_are_masked(start, trajectory, reference, model_folder):
    backend = await start("sft", architecture="gpt2")
    call = (ToolCall(name="look"),)
    chunks = [
        {"segment": 0, "start": start, "end": start + 2, "tool_calls": call, "observation": "here"}
        for start in (3, 7, 11)
    ]
    shown = trajectory("a", segments=(14,), chunks=chunks)
    report = await backend.fit_sft([relevant_chunks(shown, ["repeated-call"])])
    assert report.metrics["train/trainable_tokens"] == 4
    plain = reference(model_folder("gpt2"))
    kept = [each for chunk in (shown.chunks[0], shown.chunks[2]) for each in plain.logprobs(shown, chunk)]
    assert report.metrics["train/loss"] == pytest.approx(-torch.stack(kept).mean().item(), rel=1e-6)


async def test_a_batch_without_a_token_to_train_takes_no_step(start, trajectory, weights_of):
    backend = await start("sft")
    before = weights_of(backend)
    masked = trajectory("a", segments=(9,), chunks=[{"segment": 0, "start": 3, "end": 6, "errored": True}])
    report = await backend.fit_sft([masked])
    assert report.optimizer_steps == 0
    assert report.metrics["train/empty_steps"] == 1
    assert report.metrics["train/trajectories_left_out"] == 1
    assert "train/loss" not in report.metrics
    assert backend.version == 0
    assert_equal_weights(weights_of(backend), before, rtol=0, atol=0)


async def test_the_first_token_of_a_segment_is_not_trained_since_nothing_predicts_it(start, trajectory):
    backend = await start("sft")
    chunks = [{"segment": 0, "start": 0, "end": 1}, {"segment": 1, "start": 0, "end": 3}]
    report = await backend.fit_sft([trajectory("a", segments=(4, 4), chunks=chunks)])
    assert report.metrics["train/trainable_tokens"] == 2


async def test_learning_rates_follow_the_schedule_and_a_new_phase_starts_afresh(start, mixed_batch):
    settings = OptimizerSettings(learning_rate=1.0e-3, warmup_steps=2, schedule="linear", min_learning_rate=2e-4)
    backend = await start("sft", sft=settings, steps=4)
    rates = [(await backend.fit_sft(mixed_batch)).metrics["train/learning_rate"] for _ in range(5)]
    assert rates == pytest.approx([5e-4, 1e-3, 1e-3, 6e-4, 2e-4])
    backend.begin("sft", optimizer_steps=4)
    assert (await backend.fit_sft(mixed_batch)).metrics["train/learning_rate"] == pytest.approx(5e-4)


async def test_gradient_checkpointing_changes_nothing_and_brings_no_dropout_back(start, mixed_batch, weights_of):
    plain = await start("sft", architecture="gpt2")
    frugal = await start("sft", architecture="gpt2", gradient_checkpointing=True)
    for backend in (plain, frugal):
        await backend.fit_sft(mixed_batch)
    assert_equal_weights(weights_of(plain), weights_of(frugal), rtol=0, atol=1e-9)


async def test_steps_outside_their_phase_are_refused(start, mixed_batch):
    backend = await start(None)
    with pytest.raises(RunError, match=r"phase 'sft' was asked for in phase none; call begin\('sft'"):
        await backend.fit_sft(mixed_batch)
    backend.begin("rl", optimizer_steps=1)
    with pytest.raises(RunError, match="in phase 'rl'"):
        await backend.fit_sft(mixed_batch)


async def test_a_backend_that_was_not_started_says_so():
    backend = TorchTraining(TorchTrainingSettings())
    assert isinstance(backend, TrainingBackend)
    assert backend.version == 0
    for call in (backend.weights, lambda: backend.begin("sft", optimizer_steps=1)):
        with pytest.raises(RunError, match="call start"):
            call()
    await backend.close()


async def test_a_folder_without_a_model_is_refused(tmp_path):
    backend = TorchTraining(TorchTrainingSettings())
    with pytest.raises(RunError, match="no model to train"):
        await backend.start(tmp_path, seed=0)
    await backend.close()


async def test_the_event_loop_runs_while_a_step_is_taken(start, mixed_batch):
    backend = await start("sft")
    ticks = 0
    step = asyncio.ensure_future(backend.fit_sft(mixed_batch))
    while not step.done():
        await asyncio.sleep(0)
        ticks += 1
    assert ticks > 2
    assert (await step).optimizer_steps == 1


async def test_the_number_of_threads_can_be_set(start):
    before = torch.get_num_threads()
    backend = await start(None, threads=1)
    assert await backend._run(torch.get_num_threads) == 1
    torch.set_num_threads(before)


def test_settings_refuse_what_makes_no_sense():
    for wrong in ({"micro_batch_tokens": 0}, {"snapshots": -1}, {"sft": {"betas": [0.9, 1.0]}}, {"learnig_rate": 1}):
        with pytest.raises(ValidationError):
            TorchTrainingSettings.model_validate(wrong)


async def test_two_precisions_in_one_process_are_refused(start, model_folder):
    await start(None)
    other = TorchTraining(TorchTrainingSettings(mixed_precision="bf16"))
    with pytest.raises(RunError, match="mixed_precision = 'bf16'"):
        await other.start(model_folder("llama"), seed=0)
    await other.close()
