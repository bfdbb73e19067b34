"""Requests for completions of token ids, and what comes back; knows no server.

The protocol is that of OpenAI's completions with the fields by which vLLM gives token ids: `return_token_ids` in newer
versions, `return_tokens_as_token_ids` in older ones and in servers that follow them.
"""

from collections.abc import Sequence

from pydantic import BaseModel, ValidationError

from tumbler.contracts.inference import FinishReason, GenerateRequest
from tumbler.contracts.values import JSON, JSONObject
from tumbler.errors import InferenceError

__all__ = ["Completion", "read_completion", "write_completion"]

_SEEDS = 1 << 31
"""Servers differ in how large a seed may be; all take one below this."""
_MARK = "token_id:"


class _Logprobs(BaseModel):
    tokens: list[str] = []
    token_logprobs: list[float | None] = []


class _Choice(BaseModel):
    text: str = ""
    finish_reason: str | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None
    logprobs: _Logprobs | None = None


class _Details(BaseModel):
    cached_tokens: int | None = None


class _Usage(BaseModel):
    prompt_tokens_details: _Details | None = None


class Completion(BaseModel):
    """One answer. `logprobs[i]` belongs to `token_ids[i]`."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: FinishReason
    cached_tokens: int
    text: str
    """What the server says that the ids mean."""
    prompt_token_ids: tuple[int, ...] | None
    """What the server understood, where it tells."""


class _Answer(BaseModel):
    choices: list[_Choice]
    usage: _Usage | None = None


def write_completion(request: GenerateRequest, *, max_tokens: int, stops: Sequence[int]) -> JSONObject:
    """Return the body of a request, but for the model's name."""
    rule = request.sampling
    return {
        "prompt": list(request.token_ids),
        "max_tokens": max_tokens,
        "temperature": rule.temperature,
        "top_p": rule.top_p,
        # Left out where it asks for nothing: OpenAI's own protocol does not have it.
        **({"top_k": rule.top_k} if rule.top_k else {}),
        "seed": request.seed % _SEEDS,
        "logprobs": 1,
        "stop_token_ids": list(stops),
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


def read_completion(answer: JSON) -> Completion:
    """Return what a server answered; raise `InferenceError` where that is no completion in token ids."""
    try:
        read = _Answer.model_validate(answer)
        choice = read.choices[0]
    except (ValidationError, IndexError) as error:
        raise InferenceError(
            f"the server's answer is no completion: {str(error).splitlines()[0]}: {answer!r:.400}"
        ) from error
    ids, found = _ids(choice), choice.logprobs.token_logprobs if choice.logprobs else []
    if ids is None or len(found) != len(ids) or None in found:
        raise InferenceError(
            "the server gives no token ids with their log-probabilities, which a run needs; it must know "
            "`return_token_ids` or `return_tokens_as_token_ids`, as vLLM does. A model that only chats can be asked by "
            "agents through the gateway, or by `tumbler agent`"
        )
    details = read.usage.prompt_tokens_details if read.usage else None
    return Completion(
        token_ids=tuple(ids),
        # Rounding can bring the logarithm of a certain token above 0.
        logprobs=tuple(min(0.0, each or 0.0) for each in found),
        finish_reason=_REASONS.get(choice.finish_reason or "", "abort"),
        cached_tokens=(details.cached_tokens or 0) if details else 0,
        text=choice.text,
        prompt_token_ids=None if choice.prompt_token_ids is None else tuple(choice.prompt_token_ids),
    )


def _ids(choice: _Choice) -> list[int] | None:
    if choice.token_ids is not None:
        return choice.token_ids
    tokens = choice.logprobs.tokens if choice.logprobs else []
    if not tokens or not all(each.startswith(_MARK) and each[len(_MARK) :].isdecimal() for each in tokens):
        return None
    return [int(each[len(_MARK) :]) for each in tokens]


_REASONS: dict[str, FinishReason] = {"stop": "stop", "length": "length"}
