"""Replies in progress over new weights: what they are of, that none is lost, and that the update waits for none."""

import asyncio
from random import Random

import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from tumbler.contracts.inference import WeightUpdate
from tumbler.errors import InferenceError

FAMILIES = ["llama", "mistral", "gptj"]
"""Packed, packed with a window, and run one request at a time."""


@pytest.fixture(params=FAMILIES)
def models(request, tmp_path, write_model):
    """Two models of one shape."""
    return [write_model(tmp_path / f"{request.param}-{seed}", request.param, seed=seed) for seed in (0, 1)]


@pytest.fixture
def pair(tmp_path, write_model):
    return [write_model(tmp_path / f"model-{seed}", seed=seed) for seed in (0, 1)]


def ids_of(count, seed=0):
    random = Random(seed)
    return [random.randrange(6, 350) for _ in range(count)]


def tensors_of(folder):
    return AutoModelForCausalLM.from_pretrained(folder).state_dict().items


def logprobs_of(folder, prompt, reply):
    """Return what one plain forward pass gives to the reply."""
    with torch.inference_mode():
        logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([[*prompt, *reply.token_ids]])).logits[0]
    logprobs = logits.log_softmax(-1)[len(prompt) - 1 : -1]
    return logprobs.gather(1, torch.tensor(reply.token_ids)[:, None]).squeeze(1).tolist()


def over_old_states(models, prompt, reply, switch):
    """Return what the second model gives to the tokens from `switch` on, over the first one's keys and values."""
    old, new = (AutoModelForCausalLM.from_pretrained(folder) for folder in models)
    ids = torch.tensor([[*prompt, *reply.token_ids]])
    computed = len(prompt) + switch - 1  # all but the token that was drawn last
    cache = DynamicCache(config=old.config)
    with torch.inference_mode():
        old(ids[:, :computed], past_key_values=cache, use_cache=True)
        logits = new(ids[:, computed:-1], past_key_values=cache, use_cache=True).logits[0]
    return logits.log_softmax(-1).gather(1, ids[0, computed + 1 :, None]).squeeze(1).tolist()


def switch_of(reply, old):
    """Return the first token that is not the old weights'."""
    gaps = [abs(ours - theirs) for ours, theirs in zip(reply.logprobs, old, strict=True)]
    return next(index for index, gap in enumerate(gaps) if gap > 1e-3)


async def over_an_update(backend, begun, models, requests, tokens=3):
    """Return the replies to requests that were in progress, each with `tokens` or more, when new weights came."""
    update = WeightUpdate(version=4, tensors=tensors_of(models[1]))
    tasks = [await begun(backend, request, tokens) for request in requests]
    await backend.update_weights(update)
    waits = [not task.done() for task in tasks]
    return [await task for task in tasks], waits


async def test_a_reply_goes_on_under_the_new_weights_and_all_of_its_tokens_are_theirs_who_sampled_them(
    models, serve, ask, begun
):
    backend, prompt = await serve(models[0]), ids_of(40)
    (reply,), waits = await over_an_update(backend, begun, models, [ask(prompt, temperature=0.0, max_tokens=200)])
    assert waits == [True], "the update did not wait for the reply"
    old, new = (logprobs_of(folder, prompt, reply) for folder in models)
    switch = switch_of(reply, old)
    assert switch >= 3
    assert reply.logprobs[switch:] == pytest.approx(new[switch:], abs=1e-4)
    assert reply.policy_version == 0, "the version is the oldest among the tokens"
    assert len(reply.logprobs) == len(reply.token_ids)
    assert reply.finish_reason == "stop" or len(reply.token_ids) == 200
    assert backend.metrics()["replies_resumed"] == backend.metrics()["updates"] == 1
    assert (await backend.generate(ask(prompt))).policy_version == 4


async def test_kept_keys_and_values_are_those_of_the_old_weights(models, serve, ask, begun):
    backend, prompt = await serve(models[0], on_update="keep"), ids_of(40)
    (reply,), waits = await over_an_update(backend, begun, models, [ask(prompt, temperature=0.0, max_tokens=200)])
    assert waits == [True]
    old = logprobs_of(models[0], prompt, reply)
    switch = switch_of(reply, old)
    assert reply.logprobs[:switch] == pytest.approx(old[:switch], abs=1e-4)
    assert reply.logprobs[switch:] == pytest.approx(over_old_states(models, prompt, reply, switch), abs=1e-4)
    assert reply.policy_version == 0


async def test_with_drain_replies_in_progress_are_finished_with_the_old_weights(
    pair, serve, ask, begun, assert_faithful
):
    backend, prompt = await serve(pair[0], max_batch=1, on_update="drain"), ids_of(20)
    update = WeightUpdate(version=1, tensors=tensors_of(pair[1]))
    old = await begun(backend, ask(prompt, temperature=0.0, max_tokens=200, session="s"))
    waiting = asyncio.create_task(backend.generate(ask(prompt)))
    await asyncio.sleep(0)
    await backend.update_weights(update)
    assert (await old).policy_version == 0
    assert (await waiting).policy_version == 1
    assert_faithful(pair[0], prompt, await old)
    assert_faithful(pair[1], prompt, await waiting)
    assert backend.metrics()["replies_resumed"] == 0


@pytest.mark.parametrize("on_update", ["abort", "keep", "drain"])
async def test_over_many_updates_no_request_is_lost_or_served_twice(on_update, pair, serve, ask):
    backend = await serve(pair[0], on_update=on_update, max_batch=3, prefill_chunk=16, cache_bytes=1 << 18)
    shared = ids_of(60)
    requests = [
        ask([*shared, *ids_of(5 + index, seed=index)], seed=index, max_tokens=5 + 7 * index, session=f"s{index % 4}")
        for index in range(9)
    ]
    tensors = [tensors_of(folder) for folder in pair]
    tasks = [asyncio.create_task(backend.generate(request)) for request in requests]
    for version in range(1, 6):
        await asyncio.sleep(0.01)
        await backend.update_weights(WeightUpdate(version=version, tensors=tensors[version % 2]))
    replies = await asyncio.gather(*tasks)
    for request, reply in zip(requests, replies, strict=True):
        assert reply.finish_reason == "stop" or len(reply.token_ids) == request.sampling.max_tokens
        assert len(reply.token_ids) == len(reply.logprobs)
    metrics = backend.metrics()
    assert metrics["requests"] == 9
    assert metrics["tokens_sampled"] == sum(len(reply.token_ids) for reply in replies)
    for session in range(4):
        await backend.release(f"s{session}")
    await backend.generate(ask(ids_of(3), max_tokens=1))
    assert backend.metrics()["cache_tokens"] == 0, "every slot was given back"


@pytest.mark.parametrize("on_update", ["abort", "keep"])
async def test_nothing_of_the_old_weights_is_built_upon_by_another_request(
    on_update, pair, serve, ask, begun, assert_faithful
):
    backend, prompt = await serve(pair[0], on_update=on_update), ids_of(60)
    await backend.generate(ask(prompt, session="idle"))
    update = WeightUpdate(version=1, tensors=tensors_of(pair[1]))
    running = await begun(backend, ask(prompt, temperature=0.0, max_tokens=190, session="running"), 2)
    await backend.update_weights(update)
    beside = await backend.generate(ask([*prompt, 9], session="beside"))
    idle = await backend.generate(ask([*prompt, 9], session="idle"))
    assert not running.done()
    assert_faithful(pair[1], [*prompt, 9], beside)
    assert_faithful(pair[1], [*prompt, 9], idle)
    reply = await running
    later = [*prompt, *reply.token_ids, 8]
    assert_faithful(pair[1], later, await backend.generate(ask(later, session="running")))


async def test_replies_that_begin_alike_compute_their_beginning_once_after_an_update(pair, serve, ask, begun):
    backend, prompt = await serve(pair[0]), ids_of(100)
    requests = [ask(prompt, temperature=0.0, max_tokens=150, seed=seed) for seed in range(4)]
    replies, waits = await over_an_update(backend, begun, pair, requests, tokens=2)
    assert waits == [True] * 4
    assert backend.metrics()["replies_resumed"] == 4
    sampled = sum(len(reply.token_ids) for reply in replies)
    prompts_and_replies = backend.metrics()["tokens_computed"] - sampled
    assert prompts_and_replies < 2 * len(prompt) + 4 * 60, "the prompt once for each version, and replies so far"


@pytest.mark.parametrize(("on_update", "version"), [("abort", 1), ("keep", 0)])
async def test_a_reply_without_a_token_is_of_the_weights_that_computed_its_prompt(on_update, version, pair, serve, ask):
    backend, prompt = await serve(pair[0], on_update=on_update, prefill_chunk=1), ids_of(240)
    update = WeightUpdate(version=1, tensors=tensors_of(pair[1]))
    task = asyncio.create_task(backend.generate(ask(prompt)))
    while backend.metrics()["tokens_computed"] < 8:
        await asyncio.sleep(0)
    await backend.update_weights(update)
    assert backend.metrics()["tokens_sampled"] == 0
    assert (await task).policy_version == version


async def test_a_session_released_while_its_reply_is_broken_off_keeps_nothing(pair, serve, ask, begun):
    backend = await serve(pair[0], max_batch=1)
    update = WeightUpdate(version=1, tensors=tensors_of(pair[1]))
    task = await begun(backend, ask(ids_of(20), temperature=0.0, max_tokens=200, session="s"))
    updating = asyncio.create_task(backend.update_weights(update))
    await asyncio.sleep(0)
    await backend.release("s")
    await updating
    await task
    assert backend.metrics()["cache_tokens"] == 0


async def test_weights_that_do_not_fit_leave_replies_in_progress_alone(pair, serve, ask, begun, assert_faithful):
    backend, prompt = await serve(pair[0]), ids_of(20)
    task = await begun(backend, ask(prompt, max_tokens=100))
    with pytest.raises(InferenceError, match="is missing"):
        await backend.update_weights(WeightUpdate(version=1, tensors=list))
    assert_faithful(pair[0], prompt, await task)
    assert backend.metrics()["replies_resumed"] == 0
