"""The contract of inference backends as tests; the model is whatever the fixture `model_folder` holds."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import get_args

import pytest

from tumbler.contracts.inference import (
    FinishReason,
    GenerateRequest,
    Generation,
    InferenceBackend,
    Sampling,
    WeightUpdate,
)
from tumbler.contracts.values import Message
from tumbler.errors import InferenceError
from tumbler.testing.suite import ContractSuite, asynchronous

__all__ = ["InferenceSuite"]

Build = Callable[[], InferenceBackend]

_TOKENS = 6
_TALK = [Message(role="system", content="Be brief."), Message(role="user", content="Say a word.")]


class InferenceSuite(ContractSuite):
    """Subclass it with the fixture `make_backend`, and with `model_folder` if the backend needs a model."""

    @pytest.fixture
    def make_backend(self) -> Build:
        """Override: return a function that builds a backend that is not yet started."""
        raise NotImplementedError("define the fixture make_backend: a function that builds the inference backend")

    @pytest.fixture
    def model_folder(self, tmp_path: Path) -> Path:
        """Override for a backend that loads a model: return a folder in Hugging Face format."""
        return tmp_path

    @asynchronous
    async def test_text_survives_the_tokenizer(self, make_backend: Build, model_folder: Path) -> None:
        """What is encoded is decoded, and the chat template takes every role."""
        async with _started(make_backend(), model_folder) as backend:
            tokenizer = backend.tokenizer
            for text in ("Say a word.", "print(1 + 2)\n", "é ü 漢"):
                assert tokenizer.decode(tokenizer.encode(text)) == text, f"{text!r} comes back changed"
            assert tokenizer.context_length > 0 and tokenizer.fingerprint
            assert tokenizer.decode([tokenizer.end_of_turn]) == "", "the end of turn is a control token"

    @asynchronous
    async def test_a_prompt_is_the_conversation_and_an_invitation(
        self, make_backend: Build, model_folder: Path
    ) -> None:
        """The rendered conversation begins the rendered prompt."""
        async with _started(make_backend(), model_folder) as backend:
            talk = backend.tokenizer.render(_TALK, add_generation_prompt=False)
            prompt = backend.tokenizer.render(_TALK, add_generation_prompt=True)
            assert prompt.startswith(talk) and all(message.content in talk for message in _TALK)

    @asynchronous
    async def test_a_reply_is_well_formed(self, make_backend: Build, model_folder: Path) -> None:
        """One log-probability for each token, never above 0, and never more tokens than asked for."""
        async with _started(make_backend(), model_folder) as backend:
            for limit in (1, _TOKENS):
                _check(await backend.generate(_request(backend, max_tokens=limit)), limit)

    @asynchronous
    async def test_equal_seeds_give_equal_replies(self, make_backend: Build, model_folder: Path) -> None:
        """Whatever is computed beside them, and whatever is cached."""
        async with _started(make_backend(), model_folder) as backend:
            alone = await backend.generate(_request(backend, seed=1))
            requests = [_request(backend, seed=seed, session=f"s{seed}") for seed in (0, 1, 2, 3)]
            beside = (await asyncio.gather(*map(backend.generate, requests)))[1]
            again = await backend.generate(_request(backend, seed=1, session="s1"))
            for other in (beside, again):
                assert other.token_ids == alone.token_ids, "an equal request got another reply"
                assert other.logprobs == pytest.approx(alone.logprobs, abs=1e-3)

    @asynchronous
    async def test_greedy_replies_do_not_depend_on_the_seed(self, make_backend: Build, model_folder: Path) -> None:
        """A temperature of 0 takes the likeliest token."""
        async with _started(make_backend(), model_folder) as backend:
            once, again = [await backend.generate(_request(backend, seed=seed, temperature=0.0)) for seed in (1, 2)]
            assert once.token_ids == again.token_ids
            _check(once, _TOKENS)

    @asynchronous
    async def test_many_sessions_are_served_at_once(self, make_backend: Build, model_folder: Path) -> None:
        """Concurrent episodes ask concurrently."""
        async with _started(make_backend(), model_folder) as backend:
            requests = [_request(backend, seed=seed, session=f"s{seed}") for seed in range(8)]
            for reply in await asyncio.gather(*map(backend.generate, requests)):
                _check(reply, _TOKENS)

    @asynchronous
    async def test_a_cancelled_request_disturbs_no_other(self, make_backend: Build, model_folder: Path) -> None:
        """An episode that runs out of time takes only its own request along."""
        async with _started(make_backend(), model_folder) as backend:
            calls = [asyncio.ensure_future(backend.generate(_request(backend, seed=seed))) for seed in range(3)]
            await asyncio.sleep(0)
            calls[1].cancel()
            replies = await asyncio.gather(*calls, return_exceptions=True)
            assert isinstance(replies[1], asyncio.CancelledError | Generation)
            expected = await backend.generate(_request(backend, seed=2))
            assert isinstance(replies[2], Generation) and replies[2].token_ids == expected.token_ids

    @asynchronous
    async def test_a_session_that_goes_on_is_answered(self, make_backend: Build, model_folder: Path) -> None:
        """With a cache or without, the reply to a longer prompt is that of its tokens alone."""
        async with _started(make_backend(), model_folder) as backend:
            first = await backend.generate(_request(backend, session="s"))
            tail = (*first.token_ids, *backend.tokenizer.encode(" And then?"))
            longer = await backend.generate(_request(backend, session="s", tail=tail))
            fresh = await backend.generate(_request(backend, session="other", tail=tail))
            assert longer.token_ids == fresh.token_ids, "what a session has cached changed a reply"

    @asynchronous
    async def test_sessions_can_be_released(self, make_backend: Build, model_folder: Path) -> None:
        """Also those that never were, and again."""
        async with _started(make_backend(), model_folder) as backend:
            before = await backend.generate(_request(backend, session="s"))
            for session in ("s", "s", "never-seen"):
                await backend.release(session)
            assert (await backend.generate(_request(backend, session="s"))).token_ids == before.token_ids

    @asynchronous
    async def test_new_weights_are_served_under_their_version(self, make_backend: Build, model_folder: Path) -> None:
        """Every reply says which policy gave it."""
        async with _started(make_backend(), model_folder) as backend:
            assert (await backend.generate(_request(backend))).policy_version == 0
            await backend.update_weights(WeightUpdate(version=5, folder=model_folder))
            assert (await backend.generate(_request(backend))).policy_version == 5

    @asynchronous
    async def test_its_counters_are_numbers(self, make_backend: Build, model_folder: Path) -> None:
        """They never fall."""
        async with _started(make_backend(), model_folder) as backend:
            await backend.generate(_request(backend))
            before = dict(backend.metrics())
            await backend.generate(_request(backend))
            after = backend.metrics()
            assert all(math.isfinite(value) and after[name] >= value for name, value in before.items()), f"{after}"

    @asynchronous
    async def test_closing_answers_what_is_in_flight(self, make_backend: Build, model_folder: Path) -> None:
        """With `InferenceError`, or with the reply if it was ready; no caller waits for ever."""
        async with _started(make_backend(), model_folder) as backend:
            calls = [asyncio.ensure_future(backend.generate(_request(backend, max_tokens=100))) for _ in range(4)]
            await asyncio.sleep(0)
            await backend.close()
            for outcome in await asyncio.gather(*calls, return_exceptions=True):
                assert isinstance(outcome, Generation | InferenceError), f"a request in flight ended in {outcome!r}"


def _request(
    backend: InferenceBackend,
    *,
    seed: int = 1,
    session: str = "",
    tail: tuple[int, ...] = (),
    max_tokens: int = _TOKENS,
    temperature: float = 1.0,
) -> GenerateRequest:
    prompt = backend.tokenizer.encode(backend.tokenizer.render(_TALK, add_generation_prompt=True))
    return GenerateRequest(
        token_ids=(*prompt, *tail),
        sampling=Sampling(max_tokens=max_tokens, temperature=temperature),
        seed=seed,
        session=session,
    )


def _check(reply: Generation, limit: int) -> None:
    assert 0 < len(reply.token_ids) <= limit, f"{len(reply.token_ids)} tokens of at most {limit}"
    assert len(reply.logprobs) == len(reply.token_ids), "one log-probability for each token"
    assert all(math.isfinite(value) and value <= 1e-6 for value in reply.logprobs), (
        f"log-probabilities {reply.logprobs}"
    )
    assert reply.finish_reason in get_args(FinishReason)
    assert reply.finish_reason != "length" or len(reply.token_ids) == limit, "cut off before the limit"


@asynccontextmanager
async def _started(backend: InferenceBackend, model: Path) -> AsyncIterator[InferenceBackend]:
    try:
        await backend.start(model)
        yield backend
    finally:
        await backend.close()
