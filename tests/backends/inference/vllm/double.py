"""A Python of an environment without vLLM: runs the real server, its engine a tiny one made of arithmetic.

The server's own code, its HTTP, its thread and its end with the owner are those of real use. It takes the place of
`python` in the backend's settings, and the path of the server as its argument.
"""

import json
import math
import os
import random
import struct
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import ModuleType

EMBEDDINGS = "model.embed_tokens.weight"


def read_column(path):
    """Return the first column of the embeddings in a safetensors file or in a folder that holds one."""
    file = next(iter(sorted(Path(path).glob("*.safetensors"))), None) if Path(path).is_dir() else Path(path)
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    start, end = header[EMBEDDINGS]["data_offsets"]
    values = struct.unpack(f"<{(end - start) // 4}f", data[8 + length + start : 8 + length + end])
    return values[:: header[EMBEDDINGS]["shape"][1]]


class TinyEngine:
    """The next token's logits are the embeddings' first column, turned by the token before and scaled."""

    def __init__(self, model, settings):
        if "fail" in settings:
            raise RuntimeError(settings["fail"])
        self.context = settings["max_model_len"]
        self._settings = settings
        self._column = read_column(model)
        self.vocabulary = len(self._column)
        self._replies = {}
        self._cached = []

    def add(self, ask):
        if ask.token_ids[-1] == self._settings.get("refuse"):
            raise ValueError("this one is refused")
        cached = max((_common(ask.token_ids, known) for known in self._cached), default=0)
        self._replies[ask.id] = [ask, list(ask.token_ids), cached]

    def step(self):
        from tumbler_backends.inference.vllm.server.engine import Piece

        time.sleep(self._settings.get("delay", 0.0))
        pieces = []
        for ask, tokens, cached in list(self._replies.values()):
            if tokens[-1] == self._settings.get("die"):
                os._exit(7)
            token, logprob = self._draw(ask, tokens)
            tokens.append(token)
            sampled = len(tokens) - len(ask.token_ids)
            reason = "stop" if token in ask.stop_token_ids else "length" if sampled == ask.max_tokens else ""
            if reason:
                self._cached.append(self._replies.pop(ask.id)[1])
            pieces.append(
                Piece(
                    id=ask.id,
                    token_ids=[token],
                    logprobs=[logprob],
                    finish_reason=reason,
                    cached_tokens=min(cached, 1 << 20),
                )
            )
        return pieces

    def abort(self, ids):
        for each in ids:
            self._replies.pop(each, None)

    def load(self, path):
        from tumbler_backends.inference.vllm.server.engine import Loaded

        column = read_column(path)
        if self._settings.get("broken_loader"):
            raise AssertionError("attempted to load a weight of another shape")
        if not self._settings.get("keeps_old_weights"):
            self._column = column
        self._cached = []
        problems = ["lm_head.weight: the engine computes with other values"] if self._settings.get("lies") else []
        return Loaded(problems=problems, verified=1, sums={EMBEDDINGS: math.fsum(column)})

    def score(self, token_ids):
        return [self._logprobs([before])[token] for before, token in pairwise(token_ids)]

    def _draw(self, ask, tokens):
        logprobs = self._logprobs(tokens)
        if ask.temperature == 0:
            token = max(range(len(logprobs)), key=logprobs.__getitem__)
        else:
            rng = random.Random(f"{ask.seed - len(ask.token_ids)}/{len(tokens)}")
            token = rng.choices(range(len(logprobs)), weights=[math.exp(value) for value in logprobs])[0]
        return token, logprobs[token]

    def _logprobs(self, tokens):
        turn = tokens[-1]
        logits = [4 * value for value in (*self._column[turn:], *self._column[:turn])]
        total = math.log(math.fsum(map(math.exp, logits)))
        return [value - total for value in logits]


def _common(one, other):
    return next(
        (index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


if __name__ == "__main__":
    server = Path(sys.argv.pop(1))
    package = ModuleType("tumbler_backends")
    package.__path__ = [str(server.parents[3])]
    sys.modules["tumbler_backends"] = package

    from tumbler_backends.inference.vllm.server.main import main

    main(TinyEngine)
