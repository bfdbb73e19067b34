"""Requests that cannot be served, cancelled ones, new weights, and the end."""

import asyncio
from random import Random

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from tumbler.contracts.inference import WeightUpdate
from tumbler.errors import ContextOverflowError, InferenceError
from tumbler_backends.inference.transformers.backend import TransformersInference
from tumbler_backends.inference.transformers.settings import TransformersSettings


def ids_of(count, seed=0):
    random = Random(seed)
    return [random.randrange(6, 350) for _ in range(count)]


def tensors_of(folder, change=lambda name, tensor: tensor):
    model = AutoModelForCausalLM.from_pretrained(folder)
    return lambda: [(name, change(name, tensor)) for name, tensor in model.named_parameters()]


@pytest.mark.parametrize("source", ["tensors", "folder"])
async def test_new_weights_are_served_from_the_next_request_on(
    source, folder, tmp_path, write_model, serve, ask, assert_faithful
):
    backend, prompt = await serve(), ids_of(40)
    assert (await backend.generate(ask(prompt, session="s"))).policy_version == 0
    other = write_model(tmp_path / "other", seed=1)
    given = {"tensors": tensors_of(other)} if source == "tensors" else {"folder": other}
    await backend.update_weights(WeightUpdate(version=7, **given))
    reply = await backend.generate(ask(prompt, session="s"))
    assert (reply.policy_version, reply.cached_tokens) == (7, 0)
    assert_faithful(other, prompt, reply)


def _double(name, tensor):
    return torch.cat([tensor, tensor]) if name == "model.norm.weight" else tensor


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda tensors: tensors[1:], "model.embed_tokens.weight is missing"),
        (lambda tensors: [*tensors, ("model.extra", tensors[0][1])], "model.extra is unknown"),
        (lambda tensors: [(name, _double(name, tensor)) for name, tensor in tensors], "has shape"),
    ],
)
async def test_weights_that_do_not_fit_change_nothing(change, complaint, folder, write_model, tmp_path, serve, ask):
    backend, prompt = await serve(), ids_of(20)
    before = await backend.generate(ask(prompt))
    other = tensors_of(write_model(tmp_path / "other", seed=1))()
    with pytest.raises(InferenceError, match=complaint):
        await backend.update_weights(WeightUpdate(version=1, tensors=lambda: change(other)))
    assert await backend.generate(ask(prompt)) == before


async def test_an_update_without_weights_is_refused(serve):
    backend = await serve()
    with pytest.raises(InferenceError, match="neither tensors nor a folder"):
        await backend.update_weights(WeightUpdate(version=1))


async def test_an_error_of_whoever_hands_over_the_weights_is_the_updates_alone(serve, ask):
    def tensors():
        raise OSError("no such shard")

    backend = await serve()
    with pytest.raises(InferenceError, match="no such shard"):
        await backend.update_weights(WeightUpdate(version=1, tensors=tensors))
    assert (await backend.generate(ask(ids_of(9)))).policy_version == 0


async def test_diverged_weights_fail_the_request_and_say_so(folder, serve, ask):
    backend = await serve()
    broken = tensors_of(folder, lambda _, tensor: tensor * float("nan"))
    await backend.update_weights(WeightUpdate(version=1, tensors=broken))
    with pytest.raises(InferenceError, match="not finite"):
        await backend.generate(ask(ids_of(9)))


async def test_cancelling_frees_the_place_in_the_batch(serve, ask, begun):
    backend = await serve(max_batch=1)
    first = await begun(backend, ask(ids_of(10), max_tokens=200, session="s"))
    second = asyncio.create_task(backend.generate(ask(ids_of(30, seed=1), max_tokens=2)))
    first.cancel()
    assert (await second).token_ids
    assert backend.metrics()["tokens_sampled"] < 100
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_cancelling_a_waiting_request_leaves_the_others_alone(serve, ask, begun):
    backend = await serve(max_batch=1)
    first = await begun(backend, ask(ids_of(10), max_tokens=60))
    waiting = asyncio.create_task(backend.generate(ask(ids_of(12))))
    await asyncio.sleep(0)
    waiting.cancel()
    assert (await first).token_ids
    assert (await backend.generate(ask(ids_of(13)))).token_ids


@pytest.mark.parametrize(
    ("token_ids", "sampling", "error", "message"),
    [
        ([], {}, InferenceError, "got 0 ids"),
        ([5, 100_000], {}, InferenceError, "another model's tokenizer"),
        ([5, -1], {}, InferenceError, "another model's tokenizer"),
        (["5"], {}, InferenceError, "TypeError"),
        ([5], {"max_tokens": 0}, InferenceError, "max_tokens >= 1"),
        ([5], {"top_p": 0.0}, InferenceError, "top_p"),
        ([5], {"temperature": -1.0}, InferenceError, "temperature"),
        ([5] * 256, {}, ContextOverflowError, "the model's context 256"),
    ],
)
async def test_a_request_that_cannot_be_served_fails_alone(token_ids, sampling, error, message, serve, ask):
    backend = await serve()
    good = asyncio.create_task(backend.generate(ask(ids_of(10), max_tokens=50)))
    with pytest.raises(error, match=message):
        await backend.generate(ask(token_ids, **sampling))
    assert (await good).token_ids


async def test_a_request_larger_than_the_cache_says_which_setting_to_raise(tmp_path, write_model, serve, ask):
    backend = await serve(write_model(tmp_path / "deep", "gemma3"), cache_bytes=1 << 16)
    with pytest.raises(InferenceError, match="raise it in the backend's settings"):
        await backend.generate(ask(ids_of(250)))


async def test_a_failing_forward_fails_its_batch_and_not_the_backend(serve, ask, monkeypatch):
    backend = await serve()
    with monkeypatch.context() as patch:
        patch.setattr(LlamaForCausalLM, "forward", lambda *_, **__: 1 / 0)
        with pytest.raises(InferenceError, match="division by zero"):
            await backend.generate(ask(ids_of(10), session="s"))
    assert (await backend.generate(ask(ids_of(10), session="s"))).cached_tokens == 0
    assert backend.metrics()["cache_tokens"] <= 64


async def test_a_reply_that_takes_too_long_fails(serve, ask):
    backend = await serve(request_timeout=0.001)
    with pytest.raises(InferenceError, match=r"longer than 0\.001 seconds"):
        await backend.generate(ask(ids_of(200), max_tokens=50))


async def test_close_fails_what_is_in_flight_and_what_comes_after(serve, ask, begun):
    backend = await serve(max_batch=1)
    running = await begun(backend, ask(ids_of(10), max_tokens=200))
    waiting = asyncio.create_task(backend.generate(ask(ids_of(10))))
    await asyncio.sleep(0)
    await backend.close()
    for task in (running, waiting):
        with pytest.raises(InferenceError, match="closed"):
            await task
    with pytest.raises(InferenceError):
        await backend.generate(ask(ids_of(10)))
    await backend.close()


async def test_before_the_start_everything_says_so(folder, ask):
    backend = TransformersInference(TransformersSettings())
    with pytest.raises(InferenceError, match="before `start`"):
        _ = backend.tokenizer
    with pytest.raises(InferenceError, match="not started"):
        await backend.generate(ask([5]))
    assert backend.metrics() == {}
    await backend.close()


async def test_a_folder_without_a_model_is_refused_and_leaves_no_thread_waiting(tmp_path):
    backend = TransformersInference(TransformersSettings())
    with pytest.raises(InferenceError, match="tokenizer"):
        await backend.start(tmp_path)
    await backend.close()
