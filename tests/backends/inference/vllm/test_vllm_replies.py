"""Requests and replies: what is counted, what is refused, what is cancelled, and what takes too long."""

import asyncio

import pytest

from tumbler.errors import ContextOverflowError, InferenceError
from tumbler_backends.inference.vllm.backend import VllmInference
from tumbler_backends.inference.vllm.settings import VllmSettings


async def test_a_reply_ends_with_the_stop_token_that_was_sampled(serve, ask):
    backend = await serve()
    stop = backend.tokenizer.end_of_turn
    replies = [await backend.generate(ask(seed=seed, max_tokens=500)) for seed in range(5)]
    stopped = [reply for reply in replies if reply.finish_reason == "stop"]
    assert stopped
    assert all(reply.token_ids[-1] == stop and stop not in reply.token_ids[:-1] for reply in stopped)


async def test_a_reply_is_cut_at_the_models_context(serve, ask):
    backend = await serve(engine={"max_model_len": 20})
    reply = await backend.generate(ask([7] * 15, max_tokens=100))
    assert len(reply.token_ids) == 5 or reply.finish_reason == "stop"
    with pytest.raises(ContextOverflowError, match="the model's context 20"):
        await backend.generate(ask([7] * 20))


async def test_what_was_cached_is_told_and_counted(serve, ask):
    backend = await serve()
    first = await backend.generate(ask(max_tokens=4))
    longer = await backend.generate(ask((7, 8, 9, *first.token_ids, 11), max_tokens=1))
    assert (first.cached_tokens, longer.cached_tokens) == (0, 3 + len(first.token_ids))
    metrics = backend.metrics()
    assert metrics["requests"] == 2
    assert metrics["tokens_sampled"] == len(first.token_ids) + 1
    assert metrics["tokens_cached"] == longer.cached_tokens
    assert metrics["tokens_computed"] == 3 + len(first.token_ids) + 2


@pytest.mark.parametrize(
    ("token_ids", "sampling", "message"),
    [
        ([], {}, "got 0 ids"),
        ([5, 100_000], {}, "another model's tokenizer"),
        ([5, -1], {}, "another model's tokenizer"),
        (["5"], {}, "another model's tokenizer"),
        ([5], {"max_tokens": 0}, "max_tokens >= 1"),
        ([5], {"top_p": 0.0}, "top_p"),
        ([5], {"temperature": -1.0}, "temperature"),
        ([5, 66], {}, "this one is refused"),
    ],
)
async def test_a_request_that_cannot_be_served_fails_alone(token_ids, sampling, message, serve, ask):
    backend = await serve(engine={"refuse": 66})
    good = asyncio.create_task(backend.generate(ask(max_tokens=20)))
    with pytest.raises(InferenceError, match=message):
        await backend.generate(ask(token_ids, **sampling))
    assert (await good).token_ids


async def test_cancelling_a_request_ends_it_in_the_server(serve, stand, ask):
    server = await stand(delay=0.01)
    backend = await serve(**server.settings)
    task = asyncio.create_task(backend.generate(ask(max_tokens=500)))
    await server.has_sampled(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.is_idle()
    assert (await server.status())["tokens_sampled"] < 400


async def test_a_reply_that_takes_too_long_fails_and_the_server_stays(serve, ask, servers_of):
    backend = await serve(request_timeout=1.0, engine={"delay": 0.3})
    before = servers_of()
    with pytest.raises(InferenceError, match="longer than 1 seconds"):
        await backend.generate(ask(max_tokens=500))
    assert (await backend.generate(ask(max_tokens=1))).token_ids
    assert servers_of() == before


async def test_before_the_start_everything_says_so(ask):
    backend = VllmInference(VllmSettings())
    with pytest.raises(InferenceError, match="before `start`"):
        _ = backend.tokenizer
    with pytest.raises(InferenceError, match="not started"):
        await backend.generate(ask())
    assert backend.metrics() == {}
    await backend.close()


async def test_a_closed_backend_says_so_and_leaves_no_process_and_no_file(serve, ask, servers_of, tmp_path):
    backend = await serve()
    running = asyncio.create_task(backend.generate(ask(max_tokens=500)))
    assert servers_of()
    await asyncio.sleep(0)
    await backend.close()
    outcome = (await asyncio.gather(running, return_exceptions=True))[0]
    assert isinstance(outcome, InferenceError) or outcome.token_ids
    with pytest.raises(InferenceError, match="closed"):
        await backend.generate(ask())
    assert servers_of() == []
    assert list((tmp_path / "transfer").iterdir()) == []
