"""Checkpoints and published weights of the torch training backend."""

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from tumbler.contracts.batch import CreditedTrajectory
from tumbler.errors import RunError, RunFolderError
from tumbler_backends.training.torch.settings import OptimizerSettings

DECAYING = OptimizerSettings(learning_rate=1e-2, schedule="cosine", warmup_steps=2)


@pytest.fixture
def credited(mixed_batch) -> list[CreditedTrajectory]:
    return [CreditedTrajectory(trajectory=each, credits=(0.5,) * len(each.chunks)) for each in mixed_batch]


def assert_bit_equal(ours, theirs) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


@pytest.mark.parametrize("architecture", ["llama", "llama-untied", "gpt2"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
async def test_a_loaded_run_continues_bit_for_bit(
    architecture, dtype, start, credited, mixed_batch, algorithm, weights_of, tmp_path
):
    settings = {"architecture": architecture, "dtype": dtype, "sft": DECAYING, "rl": DECAYING}
    straight = await start("sft", steps=6, seed=5, **settings)
    for _ in range(3):
        await straight.fit_sft(mixed_batch)
    await straight.save(tmp_path / "sft")
    resumed = await start(None, seed=99, **settings)
    await resumed.load(tmp_path / "sft")
    assert resumed.version == straight.version == 3
    for backend in (straight, resumed):
        await backend.fit_sft(mixed_batch)
    assert_bit_equal(weights_of(resumed), weights_of(straight))

    shuffled = algorithm(minibatches=2, epochs=2)
    straight.begin("rl", optimizer_steps=20)
    await straight.step(credited, shuffled)
    await straight.save(tmp_path / "rl")
    await resumed.load(tmp_path / "rl")
    for _ in range(2):
        reports = [await backend.step(credited, shuffled) for backend in (straight, resumed)]
        assert reports[0].metrics["train/learning_rate"] == reports[1].metrics["train/learning_rate"]
    assert_bit_equal(weights_of(resumed), weights_of(straight))


async def test_a_loaded_run_still_has_the_older_snapshots(start, trajectory, algorithm, tmp_path):
    chunks = [{"segment": 0, "start": 3, "end": 6}]
    batch = [CreditedTrajectory(trajectory=trajectory("a", segments=(8,), chunks=chunks), credits=(1.0,))]
    straight = await start("rl")
    await straight.step(batch, algorithm())
    await straight.save(tmp_path / "one")
    resumed = await start(None)
    await resumed.load(tmp_path / "one")
    methods = [algorithm(old_policy="snapshot") for _ in range(2)]
    for backend, method in zip((straight, resumed), methods, strict=True):
        await backend.step(batch, method)
    old = [method.seen[0].old_logprobs for method in methods]
    assert torch.equal(*old)
    assert not torch.equal(old[0], methods[0].seen[0].policy_logprobs.detach())


async def test_skipped_steps_are_still_counted_after_loading(start, credited, algorithm, tmp_path):
    class Broken(algorithm):
        def loss(self, batch):
            output = super().loss(batch)
            output.total.data.fill_(float("nan"))
            return output

    backend = await start("rl", max_skipped_steps=1)
    await backend.step(credited, Broken())
    await backend.save(tmp_path / "one")
    resumed = await start(None, max_skipped_steps=1)
    await resumed.load(tmp_path / "one")
    with pytest.raises(RuntimeError, match="2 optimizer step"):
        await resumed.step(credited, Broken())


async def test_a_checkpoint_holds_a_model_folder_that_others_can_load(
    start, mixed_batch, tmp_path, weights_of, model_folder
):
    backend = await start("sft")
    await backend.fit_sft(mixed_batch)
    await backend.save(tmp_path / "deep" / "one")
    folder = tmp_path / "deep" / "one" / "model"
    for name in ("tokenizer.json", "chat_template.jinja"):
        assert (folder / name).read_bytes() == (model_folder("llama") / name).read_bytes()
    assert (folder / "model.safetensors").is_file()
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    assert_bit_equal(model.state_dict(), weights_of(backend))
    assert [each.name for each in (tmp_path / "deep").iterdir()] == ["one"]


async def test_a_crash_while_saving_leaves_the_older_checkpoint_whole(
    start, mixed_batch, tmp_path, weights_of, monkeypatch
):
    backend = await start("sft")
    await backend.fit_sft(mixed_batch)
    await backend.save(tmp_path / "last")
    saved = weights_of(backend)
    await backend.fit_sft(mixed_batch)

    def full_disk(*_args, **_keywords):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full_disk)
        for name, kept in (("last", "the older one in its place is whole"), ("new", "there is none")):
            with pytest.raises(RunError, match=kept):
                await backend.save(tmp_path / name)
    assert not (tmp_path / "new").exists()
    await backend.load(tmp_path / "last")
    assert_bit_equal(weights_of(backend), saved)
    await backend.fit_sft(mixed_batch)
    await backend.save(tmp_path / "last")
    await backend.save(tmp_path / "new")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["last", "new"]


async def test_missing_and_damaged_checkpoints_are_refused(start, tmp_path):
    backend = await start("sft")
    with pytest.raises(RunFolderError, match="no training checkpoint"):
        await backend.load(tmp_path / "none")
    await backend.save(tmp_path / "one")
    state = tmp_path / "one" / "state.pt"
    whole = state.read_bytes()
    state.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(RunFolderError, match="damaged"):
        await backend.load(tmp_path / "one")
    torch.save({"format": 99}, state)
    with pytest.raises(RunFolderError, match="has format 99"):
        await backend.load(tmp_path / "one")


async def test_published_weights_are_a_copy_that_later_steps_do_not_change(start, mixed_batch, weights_of):
    for snapshots in (0, 1):
        backend = await start("sft", snapshots=snapshots)
        update = backend.weights()
        before = weights_of(backend)
        await backend.fit_sft(mixed_batch)
        assert update.version == 0
        assert_bit_equal(dict(update.tensors()), before)
        assert backend.weights().version == 1
        assert not torch.equal(dict(backend.weights().tensors())["lm_head.weight"], before["lm_head.weight"])


async def test_tied_heads_are_published_under_both_names(start):
    tied = dict((await start(None)).weights().tensors())
    untied = dict((await start(None, architecture="llama-untied")).weights().tensors())
    assert torch.equal(tied["lm_head.weight"], tied["model.embed_tokens.weight"])
    assert not torch.equal(untied["lm_head.weight"], untied["model.embed_tokens.weight"])
    assert not any(tensor.requires_grad for tensor in tied.values())
