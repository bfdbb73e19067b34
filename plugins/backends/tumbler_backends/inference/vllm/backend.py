"""The `vllm` inference backend: requests to a fleet of servers, replies carried over changes of weights."""

import asyncio
import itertools
import json
import math
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree
from typing import Any

from tumbler.contracts.inference import FinishReason, GenerateRequest, Generation, TextTokenizer, WeightUpdate
from tumbler.errors import InferenceError
from tumbler_backends.inference.counters import Counters
from tumbler_backends.inference.requests import reply_room
from tumbler_backends.inference.transformers.tokenizer import HuggingFaceTokenizer
from tumbler_backends.inference.vllm.calling import Address
from tumbler_backends.inference.vllm.fleet import Fleet
from tumbler_backends.inference.vllm.origins import Attached, Launched, Origin, find_python
from tumbler_backends.inference.vllm.replica import Replica
from tumbler_backends.inference.vllm.settings import VllmSettings
from tumbler_backends.inference.vllm.transfer import Transfer, Weights

__all__ = ["VllmInference"]


@dataclass
class _Counters(Counters):
    replies_resumed: int = 0
    """Times that a reply was broken off by new weights and went on under them."""
    updates: int = 0
    seconds_updating: float = 0.0


@dataclass
class _Reply:
    """One reply as it grows, maybe over several versions."""

    token_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    version: int | None = None
    cached: int = 0
    finish_reason: FinishReason = "abort"

    def extend(self, part: Mapping[str, Any]) -> None:
        """Take what a server has added. The version is that of the first token, which is the oldest."""
        if self.version is None:
            self.cached = int(part["cached_tokens"])
        if self.version is None and (part["token_ids"] or part["finish_reason"] != "abort"):
            self.version = int(part["version"])
        self.token_ids += part["token_ids"]
        self.logprobs += part["logprobs"]
        self.finish_reason = part["finish_reason"]


class VllmInference:
    """Serves the policy with vLLM, in processes of their own.

    Requests go as token ids over HTTP on the loopback interface. New weights go in a file. Each server then tells
    whether it computes with them, and the run ends if it does not.
    """

    def __init__(self, settings: VllmSettings) -> None:
        """Take the settings; nothing is started before `start`."""
        self._settings = settings
        self._counters = _Counters()
        self._tokenizer: HuggingFaceTokenizer | None = None
        self._fleet: Fleet | None = None
        self._transfer: Transfer | None = None
        self._logs: Path | None = None
        self._stops: tuple[int, ...] = ()
        self._vocabulary = 0
        self._context = 0
        self._in_flight = 0
        self._busy_since = 0.0
        self._ids = (f"{secrets.token_hex(4)}-{number}" for number in itertools.count())

    async def start(self, model: Path) -> None:
        """Launch or find the servers, with the model folder as policy version 0."""
        if self._fleet is not None:
            raise InferenceError("the inference backend is started already; build another one for another model")
        tokenizer = await asyncio.to_thread(HuggingFaceTokenizer, model)
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
        self._vocabulary = int(config.get("vocab_size") or config["text_config"]["vocab_size"])
        longest = self._settings.engine.get("max_model_len") or tokenizer.context_length
        self._context = min(int(longest), tokenizer.context_length)
        self._stops = _stop_tokens(tokenizer, model)
        python = None if self._settings.addresses else find_python(self._settings.python)
        transfer = self._transfer = await asyncio.to_thread(Transfer, model, self._settings.transfer_folder)
        self._logs = Path(tempfile.mkdtemp(prefix="tumbler-vllm-logs-"))
        base = Weights(path=transfer.model, version=0)
        fleet = Fleet([self._replica(origin) for origin in self._origins(model, python)], base)
        try:
            await fleet.start()
        except BaseException:
            await asyncio.to_thread(self._remove_folders)
            raise
        self._tokenizer, self._fleet = tokenizer, fleet

    @property
    def tokenizer(self) -> TextTokenizer:
        """Return the model's tokenizer."""
        if self._tokenizer is None:
            raise InferenceError("the inference backend has no tokenizer before `start`")
        return self._tokenizer

    async def generate(self, request: GenerateRequest) -> Generation:
        """Return one reply; cancelling the call cancels it in the server."""
        fleet = self._started()
        room = reply_room(request, vocabulary=self._vocabulary, context=self._context)
        self._counters.requests += 1
        async with self._timed():
            try:
                async with asyncio.timeout(self._settings.request_timeout):
                    reply = await self._converse(fleet, request, room)
            except TimeoutError as error:
                await fleet.probe(request.session)
                raise InferenceError(
                    f"a reply took longer than {self._settings.request_timeout:g} seconds; the bound is the setting "
                    "`request_timeout`"
                ) from error
        if not all(map(math.isfinite, reply.logprobs)):
            raise InferenceError("the policy's log-probabilities are not finite: its weights have diverged")
        return Generation(
            token_ids=tuple(reply.token_ids),
            logprobs=tuple(reply.logprobs),
            finish_reason=reply.finish_reason,
            policy_version=reply.version or 0,
            cached_tokens=reply.cached,
        )

    async def release(self, session: str) -> None:
        """Forget which server has the session; vLLM's cache makes room by itself."""
        self._started().release(session)

    async def update_weights(self, update: WeightUpdate) -> None:
        """Have every server serve the new weights, and make sure that it does."""
        fleet, transfer = self._started(), self._transfer
        if transfer is None:
            raise InferenceError("the inference backend was closed")
        begun = time.perf_counter()
        weights = await asyncio.to_thread(transfer.write, update)
        former = await fleet.load(weights)
        if former.path != weights.path:
            former.remove()
        self._counters.updates += 1
        self._counters.seconds_updating += time.perf_counter() - begun

    def metrics(self) -> Mapping[str, float]:
        """Return counters since `start`; none before it."""
        if self._fleet is None:
            return {}
        running = time.perf_counter() - self._busy_since if self._in_flight else 0.0
        return {
            **self._counters.as_mapping(),
            "seconds_busy": self._counters.seconds_busy + running,
            "restarts": float(self._fleet.restarts),
        }

    async def close(self) -> None:
        """End the servers, remove every file, and fail what is in flight; safe to call twice."""
        if self._fleet is not None:
            await self._fleet.close()
        await asyncio.to_thread(self._remove_folders)

    def _started(self) -> Fleet:
        if self._fleet is None:
            raise InferenceError("the inference backend is not started: await start(model) first")
        return self._fleet

    async def _converse(self, fleet: Fleet, request: GenerateRequest, room: int) -> _Reply:
        """Ask until the reply is whole: a change of weights breaks it off, and the rest is asked for anew."""
        reply = _Reply()
        while True:
            rule, prompt = request.sampling, (*request.token_ids, *reply.token_ids)
            body = {
                "id": next(self._ids),
                "token_ids": prompt,
                "max_tokens": room - len(reply.token_ids),
                "temperature": rule.temperature,
                "top_p": rule.top_p,
                "top_k": rule.top_k,
                "seed": request.seed + len(reply.token_ids),
                "stop_token_ids": self._stops,
            }
            part = await fleet.generate(request.session, body)
            reply.extend(part)
            self._count(len(prompt), part)
            if reply.finish_reason != "abort":
                return reply
            self._counters.replies_resumed += 1

    def _count(self, prompt: int, part: Mapping[str, Any]) -> None:
        sampled, cached = len(part["token_ids"]), int(part["cached_tokens"])
        self._counters.tokens_sampled += sampled
        self._counters.tokens_cached += cached
        self._counters.tokens_computed += prompt - cached + sampled if sampled else 0

    @asynccontextmanager
    async def _timed(self) -> AsyncIterator[None]:
        if self._in_flight == 0:
            self._busy_since = time.perf_counter()
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            if self._in_flight == 0:
                self._counters.seconds_busy += time.perf_counter() - self._busy_since

    def _origins(self, model: Path, python: Path | None) -> Sequence[Origin]:
        settings = self._settings
        if python is None or self._logs is None or self._transfer is None:
            secret = settings.secret.get_secret_value() if settings.secret else ""
            hosts = [address.rsplit(":", 1) for address in settings.addresses]
            addresses = [Address(host=host, port=int(port), secret=secret) for host, port in hosts]
            return [Attached(address=address, start_timeout=settings.start_timeout) for address in addresses]
        engine = {"dtype": settings.dtype, "max_model_len": self._context, **settings.engine}
        return [
            Launched(
                python=python,
                model=model.absolute(),
                engine=engine,
                environment={
                    name: value.replace("{replica}", str(number)) for name, value in settings.environment.items()
                },
                port=settings.port + number if settings.port else 0,
                log=self._logs / f"{number}.log",
                remove=(self._transfer.folder, self._logs),
                start_timeout=settings.start_timeout,
            )
            for number in range(settings.replicas)
        ]

    def _replica(self, origin: Origin) -> Replica:
        settings = self._settings
        return Replica(
            origin,
            restarts=settings.restarts,
            drain=settings.on_update == "drain",
            dtype=settings.dtype,
            tolerance=settings.canary_tolerance,
            timeout=settings.request_timeout,
        )

    def _remove_folders(self) -> None:
        if self._transfer is not None:
            self._transfer.close()
        if self._logs is not None:
            rmtree(self._logs, ignore_errors=True)


def _stop_tokens(tokenizer: HuggingFaceTokenizer, model: Path) -> tuple[int, ...]:
    """Return the ids that end a reply: of the chat template, of the tokenizer, and of the generation config."""
    path = model / "generation_config.json"
    ends = json.loads(path.read_text(encoding="utf-8")).get("eos_token_id") if path.exists() else None
    listed = ends if isinstance(ends, list) else [ends] if ends is not None else []
    return tuple(dict.fromkeys((tokenizer.end_of_turn, *tokenizer.end_of_text, *listed)))
