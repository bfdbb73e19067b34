"""Replies as they grow: what was asked, what is there of it, and who waits for it. Knows no model."""

from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from tumbler.contracts.inference import FinishReason, GenerateRequest, Generation
from tumbler.errors import InferenceError, TumblerError
from tumbler_backends.inference.transformers.prefixes import Tenant

__all__ = ["Asked", "Reply", "reject", "resolve"]

_Result = TypeVar("_Result")


@dataclass(eq=False)
class Asked:
    """A request, and its reply so far; it waits, or has a slot and is a `Reply`."""

    request: GenerateRequest
    room: int
    """Tokens of prompt and longest reply."""
    future: "Future[Generation]"
    random: Random
    token_ids: list[int]
    """Prompt and reply so far."""
    logprobs: list[float] = field(default_factory=list)
    version: int | None = None
    """The oldest weights that the reply is of; None before its first token."""
    cached: int | None = None
    """How much of the prompt was not computed; None before the first slot."""
    keeps_slot: bool = True

    def generation(self, reason: FinishReason) -> Generation:
        """Return the reply, of one token or more."""
        assert self.version is not None and self.cached is not None, "a reply has a slot and a token"
        return Generation(
            token_ids=tuple(self.token_ids[len(self.request.token_ids) :]),
            logprobs=tuple(self.logprobs),
            finish_reason=reason,
            policy_version=self.version,
            cached_tokens=self.cached,
        )


@dataclass(eq=False)
class Reply(Tenant):
    """A reply in progress."""

    asked: Asked

    @property
    def pending(self) -> int:
        """Return how many tokens are to be computed before the next one can be drawn."""
        return len(self.token_ids) - len(self.slot.token_ids)


def resolve(future: "Future[_Result]", result: _Result) -> None:
    """Hand over the result, unless nobody waits for it any more."""
    try:
        future.set_result(result)
    except InvalidStateError:
        return  # cancelled by the waiting side in this very moment


def reject(future: "Future[_Result]", error: Exception) -> None:
    """Hand over the error, as one of inference unless it is Tumbler's own."""
    failure: Exception = error
    if not isinstance(error, TumblerError):
        failure = InferenceError(f"{type(error).__name__}: {error}")
        failure.__cause__ = error
    try:
        future.set_exception(failure)
    except InvalidStateError:
        return
