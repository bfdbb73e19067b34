"""Checkpoints, published weights and tidiness of the trl training backend."""

import json
import random
import tempfile
from pathlib import Path

import numpy
import pytest
import torch
from pydantic import ValidationError
from transformers import AutoModelForCausalLM, AutoTokenizer

from tumbler.contracts.batch import CreditedTrajectory
from tumbler.contracts.training import TrainingBackend
from tumbler.errors import RunError, RunFolderError
from tumbler_algorithms.grpo.algorithm import GRPO
from tumbler_algorithms.grpo.settings import GRPOSettings
from tumbler_backends.training.trl.backend import TRLTraining
from tumbler_backends.training.trl.settings import OptimizerSettings, TRLTrainingSettings

DECAYING = OptimizerSettings(learning_rate=1e-2, schedule="cosine", warmup_steps=2)


@pytest.fixture
def rollouts(trajectory) -> list[CreditedTrajectory]:
    """Return rollouts that hold the tokenizer's unknown, first and last token, which is also TRL's padding."""
    chunks = [{"segment": 0, "start": 3, "end": 6}, {"segment": 0, "start": 8, "end": 11}]
    batch = []
    for index, advantage in enumerate((1.0, -0.5, 0.25)):
        record = trajectory(f"t{index}", segments=(13,), chunks=chunks, seed=index)
        tokens = (0, 1, *record.segments[0].token_ids[2:10], 2, 2, 2)
        object.__setattr__(record.segments[0], "token_ids", tokens)
        batch.append(CreditedTrajectory(trajectory=record, credits=(advantage,) * 2))
    return batch


def assert_bit_equal(ours, theirs) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_a_loaded_run_continues_bit_for_bit(
    architecture, dtype, start_trl, mixed_batch, rollouts, tensors_of, tmp_path
):
    settings = {"architecture": architecture, "dtype": dtype, "sft": DECAYING, "rl": DECAYING, "loss": {"beta": 0.1}}
    straight = await start_trl("sft", steps=6, seed=5, **settings)
    for _ in range(3):
        await straight.fit_sft(mixed_batch)
    await straight.save(tmp_path / "sft")
    resumed = await start_trl(None, seed=99, **settings)
    await resumed.load(tmp_path / "sft")
    assert resumed.version == straight.version == 3
    for backend in (straight, resumed):
        await backend.fit_sft(mixed_batch)
    assert_bit_equal(tensors_of(resumed), tensors_of(straight))

    shuffled = GRPO(GRPOSettings(minibatches=2, epochs=2))
    straight.begin("rl", optimizer_steps=20)
    await straight.step(rollouts, shuffled)
    await straight.save(tmp_path / "rl")
    await resumed.load(tmp_path / "rl")
    for _ in range(2):
        reports = [await backend.step(rollouts, shuffled) for backend in (straight, resumed)]
        for name in ("train/learning_rate", "train/loss", "trl/kl"):
            assert reports[0].metrics[name] == reports[1].metrics[name]
    assert_bit_equal(tensors_of(resumed), tensors_of(straight))


async def test_a_phase_that_has_begun_without_a_step_is_kept(start_trl, rollouts, tmp_path):
    backend = await start_trl("rl", steps=7)
    await backend.save(tmp_path / "one")
    resumed = await start_trl(None)
    await resumed.load(tmp_path / "one")
    assert (await resumed.step(rollouts, GRPO(GRPOSettings()))).optimizer_steps == 1


async def test_a_checkpoint_holds_the_model_folder_as_others_wrote_it(
    start_trl, rollouts, folder_of, tmp_path, tensors_of
):
    backend = await start_trl("rl")
    await backend.step(rollouts, GRPO(GRPOSettings()))
    await backend.save(tmp_path / "deep" / "one")
    folder = tmp_path / "deep" / "one" / "model"
    for name in ("config.json", "generation_config.json"):
        given, written = (json.loads((each / name).read_text()) for each in (folder_of("llama"), folder))
        assert written == given, "TRL's padding and cache settings have no place there"
    assert (folder / "tokenizer.json").read_bytes() == (folder_of("llama") / "tokenizer.json").read_bytes()
    assert AutoTokenizer.from_pretrained(folder).pad_token is None
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert_bit_equal(model.state_dict(), tensors_of(backend))
    assert [each.name for each in (tmp_path / "deep").iterdir()] == ["one"]


async def test_missing_damaged_and_foreign_checkpoints_are_refused(start_trl, start_torch, tmp_path):
    backend = await start_trl("sft")
    with pytest.raises(RunFolderError, match="no training checkpoint"):
        await backend.load(tmp_path / "none")
    await backend.save(tmp_path / "one")
    state = tmp_path / "one" / "state.pt"
    state.write_bytes(state.read_bytes()[:100])
    with pytest.raises(RunFolderError, match="damaged"):
        await backend.load(tmp_path / "one")
    other = await start_torch("sft")
    await other.save(tmp_path / "other")
    with pytest.raises(RunFolderError, match="no checkpoint of the training backend trl"):
        await backend.load(tmp_path / "other")


async def test_published_weights_are_a_copy_with_tied_heads_under_both_names(start_trl, mixed_batch, tensors_of):
    backend = await start_trl("sft")
    update, before = backend.weights(), tensors_of(backend)
    await backend.fit_sft(mixed_batch)
    assert update.version == 0
    assert_bit_equal(dict(update.tensors()), before)
    after = tensors_of(backend)
    assert not torch.equal(after["lm_head.weight"], before["lm_head.weight"])
    assert torch.equal(after["lm_head.weight"], after["model.embed_tokens.weight"])


async def test_it_leaves_no_file_and_no_random_state_behind(
    start_trl, mixed_batch, rollouts, tmp_path, monkeypatch, capfd
):
    monkeypatch.chdir(tmp_path)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    states = random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    backend = await start_trl("sft", loss={"beta": 0.1})
    await backend.fit_sft(mixed_batch)
    backend.begin("rl", optimizer_steps=2)
    await backend.step(rollouts, GRPO(GRPOSettings(old_policy="behaviour", epochs=2)))
    assert [random.getstate(), numpy.random.get_state()[1].tolist(), torch.get_rng_state().tolist()] == list(states)
    assert [each.name.startswith("tumbler-trl-") for each in scratch.iterdir()] == [True]
    await backend.close()
    assert list(Path.cwd().rglob("*")) == [scratch]
    assert capfd.readouterr() == ("", "")


async def test_gradient_checkpointing_changes_nothing_and_brings_no_dropout_back(start_trl, mixed_batch, tensors_of):
    plain = await start_trl("sft", architecture="gpt2")
    frugal = await start_trl("sft", architecture="gpt2", gradient_checkpointing=True)
    for backend in (plain, frugal):
        await backend.fit_sft(mixed_batch)
    assert_bit_equal(tensors_of(plain), tensors_of(frugal))


async def test_mixed_precision_computes_in_bfloat16_and_keeps_the_weights(start_trl, mixed_batch, rollouts, tensors_of):
    seen = []
    for precision in ("no", "bf16"):
        backend = await start_trl("sft", mixed_precision=precision)
        supervised = await backend.fit_sft(mixed_batch)
        backend.begin("rl", optimizer_steps=1)
        step = await backend.step(rollouts, GRPO(GRPOSettings(old_policy="behaviour")))
        seen.append([each.metrics["train/gradient_norm"] for each in (supervised, step)])
        assert {each.dtype for each in tensors_of(backend).values()} == {torch.float32}
    assert seen[0] == pytest.approx(seen[1], rel=0.1)
    assert all(plain != mixed for plain, mixed in zip(*seen, strict=True))


def test_settings_refuse_what_makes_no_sense():
    for wrong, message in (
        ({"loss": {"loss_type": "cispo"}}, "needs epsilon_high"),
        ({"loss": {"loss_type": "vespo", "sampling_correction": "sequence_mask"}}, "a sampling_correction for tokens"),
        ({"loss": {"epsilon": -0.1}}, "greater than or equal to 0"),
        ({"loss": {"num_generations": 8}}, "Extra inputs"),
        ({"dtype": "float64"}, "'float32' or 'bfloat16'"),
    ):
        with pytest.raises(ValidationError, match=message):
            TRLTrainingSettings.model_validate(wrong)


async def test_learning_rates_follow_hugging_faces_schedule_and_a_new_phase_starts_afresh(start_trl, mixed_batch):
    settings = OptimizerSettings(learning_rate=1e-3, warmup_steps=2, schedule="linear")
    backend = await start_trl("sft", sft=settings, steps=4)
    rates = [(await backend.fit_sft(mixed_batch)).metrics["train/learning_rate"] for _ in range(5)]
    assert rates == pytest.approx([0, 5e-4, 1e-3, 5e-4, 0])
    backend.begin("sft", optimizer_steps=4)
    assert (await backend.fit_sft(mixed_batch)).metrics["train/learning_rate"] == 0


async def test_calls_out_of_order_are_refused(start_trl, mixed_batch, tmp_path):
    backend = TRLTraining(TRLTrainingSettings())
    assert isinstance(backend, TrainingBackend)
    assert backend.version == 0
    with pytest.raises(RunError, match="call start"):
        backend.weights()
    with pytest.raises(RunError, match="no model to train"):
        await backend.start(tmp_path, seed=0)
    await backend.close()
    started = await start_trl(None)
    with pytest.raises(RunError, match=r"phase 'sft' was asked for in phase none; call begin\('sft'"):
        await started.fit_sft(mixed_batch)
    started.begin("rl", optimizer_steps=1)
    with pytest.raises(RunError, match="in phase 'rl'"):
        await started.fit_sft(mixed_batch)


async def test_a_model_folder_without_a_tokenizer_is_refused(folder_of, tmp_path):
    for name in ("config.json", "model.safetensors"):
        (tmp_path / name).write_bytes((folder_of("llama") / name).read_bytes())
    backend = TRLTraining(TRLTrainingSettings())
    with pytest.raises(RunError, match="no tokenizer that can be read"):
        await backend.start(tmp_path, seed=0)
    await backend.close()
