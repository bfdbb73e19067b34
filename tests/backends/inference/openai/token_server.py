"""A real HTTP server of OpenAI's completions in token ids, as vLLM speaks it; a small model answers."""

import asyncio
import threading
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from tumbler.contracts.inference import GenerateRequest, Sampling
from tumbler_backends.inference.transformers.backend import TransformersInference
from tumbler_backends.inference.transformers.settings import TransformersSettings

MODEL = "small"


class TokenServer:
    """Serves a model folder at `url`; `bodies` are the requests that came, `change` alters each answer's choice."""

    def __init__(self, folder: Path) -> None:
        self.bodies: list[Mapping[str, Any]] = []
        self.change: Mapping[str, Any] = {}
        self.url = ""
        self._folder = folder
        self._engine = TransformersInference(TransformersSettings(threads=1))
        app = web.Application()
        app.router.add_post("/v1/completions", self._answer)
        self._runner = web.AppRunner(app, shutdown_timeout=1)
        # A loop of its own: those who ask may block theirs, or end it.
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)

    def __enter__(self) -> Self:
        self._thread.start()
        self._run(self._open())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _open(self) -> None:
        await self._engine.start(self._folder)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"

    async def _close(self) -> None:
        await self._runner.cleanup()
        await self._engine.close()

    async def _answer(self, asked: web.Request) -> web.Response:
        body = await asked.json()
        self.bodies.append(body)
        if body["model"] != MODEL:
            return web.json_response({"error": {"message": f"no model {body['model']}"}}, status=404)
        sampling = Sampling(
            max_tokens=body["max_tokens"],
            temperature=body["temperature"],
            top_p=body["top_p"],
            top_k=body.get("top_k", 0),
        )
        reply = await self._engine.generate(
            GenerateRequest(token_ids=tuple(body["prompt"]), sampling=sampling, seed=body["seed"])
        )
        tokens = [f"token_id:{each}" for each in reply.token_ids]
        choice = {
            "index": 0,
            "text": self._engine.tokenizer.decode(reply.token_ids),
            "finish_reason": reply.finish_reason,
            "logprobs": {"tokens": tokens, "token_logprobs": list(reply.logprobs)},
            "token_ids": list(reply.token_ids),
            "prompt_token_ids": body["prompt"],
            **self.change,
        }
        usage = {"prompt_tokens": len(body["prompt"]), "prompt_tokens_details": {"cached_tokens": 3}}
        return web.json_response({"object": "text_completion", "choices": [choice], "usage": usage})
