"""An update's canary in the `transformers` engine: right weights pass, wrong ones are told of and serve nobody."""

import asyncio
from dataclasses import replace
from random import Random

import pytest
import torch
from transformers import AutoModelForCausalLM

from tumbler.contracts.inference import Canary, WeightUpdate
from tumbler.errors import InferenceError
from tumbler_backends.training.canary import canary_tokens

FAMILIES = ["llama", "qwen2", "gpt2", "mistral", "gptj", "gemma3"]


def ids_of(count, seed=0):
    random = Random(seed)
    return [random.randrange(6, 350) for _ in range(count)]


def update_of(folder, version=1, *, dtype="float32", change=lambda tensors: tensors):
    """Return what a trainer sends: all weights, and the canary computed from them."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()
    ids = canary_tokens(model.config)
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0, :-1].float()
    logprobs = logits.log_softmax(-1).gather(1, torch.tensor(ids)[1:, None]).squeeze(1)
    tensors = change(dict(model.state_dict()))
    canary = Canary(token_ids=ids, logprobs=tuple(logprobs.tolist()), dtype=dtype)
    return WeightUpdate(version=version, tensors=tensors.items, canary=canary)


@pytest.mark.parametrize("family", FAMILIES)
async def test_right_weights_pass(family, tmp_path, write_model, serve, ask):
    folders = [write_model(tmp_path / str(seed), family, seed=seed) for seed in (0, 1)]
    backend = await serve(folders[0])
    await backend.update_weights(update_of(folders[1]))
    assert (await backend.generate(ask(ids_of(20)))).policy_version == 1


@pytest.mark.parametrize(
    ("trained", "served"), [("bfloat16", "bfloat16"), ("float32", "bfloat16"), ("bfloat16", "float32")]
)
async def test_right_weights_pass_in_bfloat16_on_either_side(
    trained, served, folder, tmp_path, write_model, serve, ask
):
    backend = await serve(folder, dtype=served)
    await backend.update_weights(update_of(write_model(tmp_path / "other", seed=1), dtype=trained))
    assert (await backend.generate(ask(ids_of(20)))).policy_version == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_weights_of_another_version_are_noticed(dtype, folder, tmp_path, write_model, serve):
    other = update_of(write_model(tmp_path / "other", seed=1), dtype=dtype)
    backend = await serve(folder, dtype=dtype)
    stale = replace(update_of(folder, dtype=dtype), canary=other.canary)
    with pytest.raises(InferenceError, match=r"weights of version 1 that it was sent: the canary's .* nats off"):
        await backend.update_weights(stale)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("model.layers.0.self_attn.k_proj.weight", "float32"),
        ("model.layers.1.mlp.down_proj.weight", "float32"),
        ("model.layers.1.self_attn.v_proj.weight", "bfloat16"),
        ("model.layers.0.mlp.down_proj.weight", "bfloat16"),
    ],
)
async def test_one_stale_tensor_is_noticed(name, dtype, folder, tmp_path, write_model, serve):
    old = AutoModelForCausalLM.from_pretrained(folder).state_dict()[name]
    other = write_model(tmp_path / "other", seed=1)
    backend = await serve(folder, dtype=dtype)
    with pytest.raises(InferenceError, match="nats off"):
        await backend.update_weights(update_of(other, dtype=dtype, change=lambda tensors: tensors | {name: old}))


async def test_an_untied_receiver_that_is_sent_no_head_notices(tmp_path, write_model, serve):
    """The sender ties its head to its embeddings and sends them once, as an update of some weights."""
    folders = [write_model(tmp_path / str(seed), "qwen2", seed=seed) for seed in (0, 1)]

    def tied(tensors):
        return {name: tensor for name, tensor in tensors.items() if name != "lm_head.weight"}

    sender = AutoModelForCausalLM.from_pretrained(folders[1])
    sender.lm_head.weight = sender.model.embed_tokens.weight
    sender.save_pretrained(tmp_path / "tied")
    backend = await serve(folders[0])
    whole = update_of(tmp_path / "tied")
    with pytest.raises(InferenceError, match="nats off"):
        await backend.update_weights(replace(whole, tensors=tied(dict(whole.tensors())).items, partial=True))
    await backend.update_weights(whole)


async def test_wrong_weights_serve_nobody_and_right_ones_end_that(folder, tmp_path, write_model, serve, ask, begun):
    other = update_of(write_model(tmp_path / "other", seed=1))
    wrong = replace(update_of(folder), canary=other.canary)
    backend = await serve(folder, max_batch=1)
    running = await begun(backend, ask(ids_of(20), temperature=0.0, max_tokens=200))
    waiting = asyncio.create_task(backend.generate(ask(ids_of(9))))
    await asyncio.sleep(0)
    with pytest.raises(InferenceError, match="Nobody is served"):
        await backend.update_weights(wrong)
    for refused in (running, waiting, backend.generate(ask(ids_of(9)))):
        with pytest.raises(InferenceError, match="does not serve the weights of version 1"):
            await refused
    await backend.update_weights(replace(other, version=2))
    assert (await backend.generate(ask(ids_of(9)))).policy_version == 2


async def test_a_canary_that_cannot_be_computed_is_a_failed_check(folder, serve, ask):
    update = update_of(folder)
    unknown = replace(update.canary, token_ids=(5, 100_000), logprobs=(-1.0,))
    backend = await serve(folder)
    with pytest.raises(InferenceError):
        await backend.update_weights(replace(update, canary=unknown))
    with pytest.raises(InferenceError, match="could not be checked"):
        await backend.generate(ask(ids_of(9)))


async def test_weights_that_have_diverged_in_training_are_called_that(folder, serve):
    update = update_of(folder, change=lambda tensors: {name: tensor * torch.nan for name, tensor in tensors.items()})
    diverged = replace(update.canary, logprobs=(float("nan"),) * len(update.canary.logprobs))
    backend = await serve(folder)
    with pytest.raises(InferenceError, match="diverged in training"):
        await backend.update_weights(replace(update, canary=diverged))


async def test_the_tolerance_is_a_setting_and_rounded_weights_are_not_compared(folder, tmp_path, write_model, serve):
    other = update_of(write_model(tmp_path / "other", seed=1))
    wrong = replace(update_of(folder), canary=other.canary)
    await (await serve(folder, canary_tolerance=1e3)).update_weights(wrong)
    await (await serve(folder, weight_bits=4)).update_weights(update_of(folder))


async def test_checking_leaves_the_cache_of_replies_in_progress_alone(folder, serve, ask, begun, assert_faithful):
    backend, prompt = await serve(folder, on_update="keep"), ids_of(40)
    update = update_of(folder)
    task = await begun(backend, ask(prompt, temperature=0.0, max_tokens=200), 3)
    await backend.update_weights(update)
    assert not task.done()
    assert_faithful(folder, prompt, await task)
