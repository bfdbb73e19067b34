"""vLLM as the server's engine: its scheduler and model in this process, stepped by hand.

In one process, because it starts in seconds where vLLM's own engine process takes the better part of a minute, and
because what the model really computes with can then be looked at.
"""

import os
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from tumbler_backends.inference.vllm.server.checks import check_weights
from tumbler_backends.inference.vllm.server.engine import Ask, Loaded, Piece
from tumbler_backends.inference.vllm.server.weights import complete_tied_head, read_weights

__all__ = ["VllmEngine"]

_SETTINGS = {
    "skip_tokenizer_init": True,
    "logprobs_mode": "processed_logprobs",  # of the distribution sampled from, not of the model's raw logits
    "enable_prefix_caching": True,
    "async_scheduling": False,  # no step may be under way while weights change
    "disable_log_stats": True,
}
_FIXED = ("model", "skip_tokenizer_init", "logprobs_mode", "async_scheduling", "quantization")
"""What replies and updates rely on: engines of quantised weights cannot be compared with what they were sent."""
_ON_PROCESSORS = {
    "enforce_eager": True,  # a compiler for the model takes minutes at each start; on GPUs it is vLLM's to decide
    "enable_chunked_prefill": False,  # vLLM cannot take back what a part of a prompt draws from a request's seed there
}
_PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")


class VllmEngine:
    """One vLLM engine with one worker, in this process."""

    def __init__(self, model: str, settings: Mapping[str, object]) -> None:
        """Load the model folder; the settings are vLLM's engine arguments."""
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # read when vLLM is imported
        self._refuse(settings)
        self._sampling: Any = import_module("vllm.sampling_params")
        device = _ON_PROCESSORS if import_module("vllm.platforms").current_platform.is_cpu() else {}
        if device and settings.get("enable_chunked_prefill"):
            raise ValueError("enable_chunked_prefill: on processors vLLM cannot do that for requests with seeds")
        chosen = {**_SETTINGS, **device, **settings}
        arguments = import_module("vllm.engine.arg_utils").EngineArgs(model=model, **chosen)
        self._engine: Any = import_module("vllm.v1.engine.llm_engine").LLMEngine.from_engine_args(arguments)
        config = self._engine.model_config
        self._tied = _is_tied(config.hf_config) or _is_tied(config.hf_text_config)
        self._context = int(config.max_model_len)
        self._vocabulary = int(config.get_vocab_size())

    @property
    def context(self) -> int:
        """Return the longest sequence, in tokens."""
        return self._context

    @property
    def vocabulary(self) -> int:
        """Return how many token ids there are."""
        return self._vocabulary

    @property
    def model(self) -> Any:  # noqa: ANN401  # a module of vLLM, whose types are not installed here
        """Return the model itself, as vLLM has built it."""
        return self._engine.collective_rpc("get_model")[0]

    def add(self, ask: Ask) -> None:
        """Take a request."""
        params = self._sampling.SamplingParams(
            max_tokens=ask.max_tokens,
            temperature=ask.temperature,
            top_p=ask.top_p,
            top_k=ask.top_k,
            seed=ask.seed % (1 << 63),
            stop_token_ids=list(ask.stop_token_ids),
            logprobs=0,
            detokenize=False,
            output_kind=self._sampling.RequestOutputKind.DELTA,
        )
        self._engine.add_request(ask.id, {"prompt_token_ids": list(ask.token_ids)}, params)

    def step(self) -> list[Piece]:
        """Compute one token of each reply in progress, and prompts."""
        return [_piece(output) for output in self._engine.step()]

    def abort(self, ids: Sequence[str]) -> None:
        """Forget requests."""
        self._engine.abort_request(list(ids))

    def load(self, path: str) -> Loaded:
        """Put in new weights, void the cache, and check what the model computes with."""
        given = complete_tied_head(read_weights(Path(path)), tied=self._tied)
        self.put(given)
        return check_weights(self.model, given)

    def put(self, weights: Mapping[str, object]) -> None:
        """Put in the weights exactly as they are, and void the cache."""
        self._engine.collective_rpc("reload_weights", kwargs={"weights_iterator": iter(weights.items())})
        if not self._engine.reset_prefix_cache():
            raise RuntimeError("vLLM did not void its cache of prefixes, so replies would mix two versions")

    def score(self, token_ids: Sequence[int]) -> list[float]:
        """Return the log-probability of each token but the first, at temperature 1."""
        params = self._sampling.SamplingParams(max_tokens=1, prompt_logprobs=0, detokenize=False)
        self._engine.add_request("score", {"prompt_token_ids": list(token_ids)}, params)
        outputs: list[Any] = []
        while self._engine.has_unfinished_requests():
            outputs += self._engine.step()
        rows = outputs[-1].prompt_logprobs[1:]
        return [float(row[token].logprob) for row, token in zip(rows, list(token_ids)[1:], strict=True)]

    def _refuse(self, settings: Mapping[str, object]) -> None:
        several = [name for name in _PARALLEL if settings.get(name, 1) != 1]
        if several:
            raise ValueError(
                f"{', '.join(several)}: weights can be updated in engines of one worker only; use `replicas` for more "
                "throughput"
            )
        fixed = [name for name in _FIXED if name in settings]
        if fixed:
            raise ValueError(f"the engine arguments {', '.join(fixed)} are not for settings to choose")


def _is_tied(config: object) -> bool:
    return bool(getattr(config, "tie_word_embeddings", False))


def _piece(output: Any) -> Piece:  # noqa: ANN401  # a RequestOutput of vLLM
    reply = output.outputs[0]
    ids = list(reply.token_ids)
    rows = list(reply.logprobs or [])[-len(ids) :] if ids else []
    return Piece(
        id=output.request_id,
        token_ids=ids,
        logprobs=[float(row[token].logprob) for row, token in zip(rows, ids, strict=True)],
        finish_reason=reply.finish_reason or "",
        cached_tokens=output.num_cached_tokens or 0,
    )
