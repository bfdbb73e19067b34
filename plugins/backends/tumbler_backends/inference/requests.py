"""What every inference backend refuses, in the same words."""

from collections.abc import Sequence

from tumbler.contracts.inference import GenerateRequest
from tumbler.errors import ContextOverflowError, InferenceError

__all__ = ["context_room", "reply_room"]


def reply_room(request: GenerateRequest, *, vocabulary: int, context: int) -> int:
    """Return the longest reply in tokens, cut at the model's context.

    Raises `ContextOverflowError` when the prompt leaves no room for a reply, and `InferenceError` when the request
    cannot be served at all.
    """
    ids, rule = request.token_ids, request.sampling
    if problem := _problem(ids, vocabulary):
        raise InferenceError(
            f"a prompt must hold token ids in [0, {vocabulary}); got {problem}. "
            "Was it tokenised with another model's tokenizer?"
        )
    if rule.max_tokens < 1 or rule.temperature < 0 or not 0 < rule.top_p <= 1 or rule.top_k < 0:
        raise InferenceError(
            f"cannot sample with {rule}: expected max_tokens >= 1, temperature >= 0, 0 < top_p <= 1, top_k >= 0"
        )
    return context_room(request, context)


def context_room(request: GenerateRequest, context: int) -> int:
    """Return the longest reply in tokens, cut at the context; raise `ContextOverflowError` where there is no room."""
    prompt = len(request.token_ids)
    if prompt >= context:
        raise ContextOverflowError(
            f"the prompt has {prompt} tokens and the model's context {context}: no room for a reply"
        )
    return min(request.sampling.max_tokens, context - prompt)


def _problem(ids: Sequence[int], vocabulary: int) -> str:
    """Return what is wrong with the ids; empty if nothing is."""
    try:
        known = len(ids) > 0 and 0 <= min(ids) <= max(ids) < vocabulary
    except TypeError as error:
        return f"something that is no id (TypeError: {error})"
    return "" if known else f"{len(ids)} ids"
