"""Replies: their log-probabilities, their determinism, what is cached between turns."""

import asyncio
from random import Random

import pytest

from tumbler.contracts.inference import InferenceBackend

CONTEXT = 256


def ids_of(count, seed=0):
    random = Random(seed)
    return [random.randrange(6, 350) for _ in range(count)]


async def play(backend, ask, prompt, *, session, turns=3, **sampling):
    """Hold a conversation of a few turns and return (prompt, reply) of each."""
    history, seen = list(prompt), []
    for turn in range(turns):
        reply = await backend.generate(ask(history, seed=turn, session=session, **sampling))
        seen.append((list(history), reply))
        history += [*reply.token_ids, *ids_of(5, seed=turn)]
    return seen


@pytest.mark.parametrize("family", ["llama", "qwen2", "gpt2", "mistral", "gemma3", "gptj"])
async def test_interleaved_conversations_report_the_logprobs_of_a_full_forward(
    family, tmp_path, write_model, serve, ask, assert_faithful, caplog
):
    folder = write_model(tmp_path / family, family)
    backend = await serve(folder, prefill_chunk=16)
    assert ("one request at a time" in caplog.text) == (family == "gptj")
    conversations = await asyncio.gather(
        *(play(backend, ask, ids_of(10 + 11 * row, seed=row), session=str(row)) for row in range(5))
    )
    for conversation in conversations:
        for prompt, reply in conversation:
            assert reply.token_ids
            assert_faithful(folder, prompt, reply)
        # All but the last token of the reply before, and what the environment added, is cached.
        (_, first), (second_prompt, second), _ = conversation
        assert second.cached_tokens == len(second_prompt) - 5 - 1
        assert first.cached_tokens == 0


async def test_a_reply_is_the_same_alone_and_in_company(serve, ask):
    alone, crowded = await serve(), await serve(prefill_chunk=7)
    requests = [ask(ids_of(20 + 3 * row, seed=row), seed=row, session=str(row), max_tokens=12) for row in range(9)]
    expected = [await alone.generate(request) for request in requests]
    found = await asyncio.gather(*(crowded.generate(request) for request in requests))
    assert [reply.token_ids for reply in found] == [reply.token_ids for reply in expected]


async def test_seeds_decide_what_is_sampled(serve, ask):
    backend = await serve()
    prompt = ids_of(12)
    replies = [await backend.generate(ask(prompt, seed=seed, temperature=2.0)) for seed in (1, 1, 2)]
    assert replies[0].token_ids == replies[1].token_ids != replies[2].token_ids


async def test_temperature_scales_the_reported_logprobs_and_zero_is_greedy(folder, serve, ask, assert_faithful):
    backend = await serve()
    prompt = ids_of(12)
    assert_faithful(folder, prompt, await backend.generate(ask(prompt, temperature=0.7)), temperature=0.7)
    greedy = [await backend.generate(ask(prompt, temperature=0, seed=seed)) for seed in (1, 2)]
    assert greedy[0].token_ids == greedy[1].token_ids
    assert_faithful(folder, prompt, greedy[0])


async def test_a_rewritten_history_reuses_only_what_is_unchanged(folder, serve, ask, assert_faithful):
    backend = await serve()
    prompt = ids_of(40)
    await backend.generate(ask(prompt, session="s"))
    rewritten = [*prompt[:25], *ids_of(10, seed=9)]
    reply = await backend.generate(ask(rewritten, session="s"))
    assert reply.cached_tokens == 25
    assert_faithful(folder, rewritten, reply)


async def test_an_equal_request_computes_only_its_last_token(folder, serve, ask, assert_faithful):
    backend = await serve()
    prompt = ids_of(40)
    replies = [await backend.generate(ask(prompt, session="s")) for _ in range(2)]
    assert replies[1].cached_tokens == 39
    assert replies[0].token_ids == replies[1].token_ids
    assert_faithful(folder, prompt, replies[1])


async def test_sessions_that_begin_alike_at_once_compute_their_beginning_once(folder, serve, ask, assert_faithful):
    backend = await serve(prefill_chunk=60)
    prompt = ids_of(120)
    replies = await asyncio.gather(
        *(backend.generate(ask(prompt, seed=row, session=str(row), max_tokens=4)) for row in range(6))
    )
    assert sorted(reply.cached_tokens for reply in replies) == [0, 119, 119, 119, 119, 119]
    for reply in replies:
        assert_faithful(folder, prompt, reply)


async def test_release_forgets_the_session(serve, ask):
    backend = await serve()
    prompt = ids_of(30)
    await backend.generate(ask(prompt, session="s"))
    await backend.release("s")
    assert (await backend.generate(ask(prompt, session="s"))).cached_tokens == 0
    await backend.release("never heard of")


async def test_release_during_a_reply_forgets_the_session_when_it_is_done(serve, ask):
    backend = await serve()
    prompt = ids_of(30)
    reply = asyncio.create_task(backend.generate(ask(prompt, session="s", max_tokens=100)))
    while not backend.metrics()["tokens_sampled"]:
        await asyncio.sleep(0)
    await backend.release("s")
    await reply
    assert (await backend.generate(ask(prompt, session="s"))).cached_tokens == 0


async def test_little_memory_evicts_the_session_unused_longest(folder, serve, ask, assert_faithful):
    token_bytes = 2 * 2 * 8 * 2 * 4  # layers, heads, size, keys and values, float32
    backend = await serve(cache_bytes=token_bytes * 600)
    prompts = [ids_of(150, seed=row) for row in range(6)]
    for row, prompt in enumerate(prompts):
        assert_faithful(folder, prompt, await backend.generate(ask(prompt, session=str(row))))
    assert backend.metrics()["cache_evictions"] > 0
    assert (await backend.generate(ask(prompts[0], session="0"))).cached_tokens == 0
    assert (await backend.generate(ask(prompts[5], session="5"))).cached_tokens == 149


async def test_more_requests_than_memory_wait_for_each_other(serve, ask):
    backend = await serve(cache_bytes=2 * 2 * 8 * 2 * 4 * 600)
    replies = await asyncio.gather(
        *(backend.generate(ask(ids_of(200, seed=row), session=str(row % 3))) for row in range(8))
    )
    assert all(reply.token_ids for reply in replies)


async def test_two_requests_of_one_session_at_once_are_both_served(folder, serve, ask, assert_faithful):
    backend = await serve()
    prompts = [ids_of(20, seed=1), ids_of(20, seed=2)]
    replies = await asyncio.gather(*(backend.generate(ask(prompt, session="s")) for prompt in prompts))
    for prompt, reply in zip(prompts, replies, strict=True):
        assert_faithful(folder, prompt, reply)


async def test_a_reply_ends_with_the_end_of_turn_or_at_its_length(serve, ask):
    backend = await serve()
    end = backend.tokenizer.end_of_turn
    prompt = ids_of(12)
    requests = [ask(prompt, seed=seed, temperature=5.0, max_tokens=200) for seed in range(20)]
    replies = await asyncio.gather(*(backend.generate(request) for request in requests))
    stopped = [reply for reply in replies if reply.finish_reason == "stop"]
    assert stopped
    for reply in replies:
        assert (reply.token_ids[-1] == end) == (reply.finish_reason == "stop")
        assert end not in reply.token_ids[:-1]
        assert reply.finish_reason == "stop" or len(reply.token_ids) == 200


async def test_a_reply_is_cut_where_the_context_ends(serve, ask):
    backend = await serve()
    reply = await backend.generate(ask(ids_of(CONTEXT - 3), max_tokens=50, top_k=1))
    assert len(reply.token_ids) <= 3


async def test_the_metrics_add_up(serve, ask):
    backend = await serve()
    assert isinstance(backend, InferenceBackend)
    conversation = await play(backend, ask, ids_of(30), session="s")
    metrics = backend.metrics()
    sampled = sum(len(reply.token_ids) for _, reply in conversation)
    prompts = sum(len(prompt) for prompt, _ in conversation)
    assert metrics["requests"] == 3
    assert metrics["tokens_sampled"] == sampled
    assert metrics["tokens_cached"] == sum(reply.cached_tokens for _, reply in conversation)
    # A reply's last token is not computed before the next turn.
    assert metrics["tokens_computed"] == prompts - metrics["tokens_cached"] + sampled - 3
    assert metrics["seconds_busy"] > 0
