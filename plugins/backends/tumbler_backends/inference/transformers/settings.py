"""The settings of the `transformers` inference backend; imports no torch."""

from typing import Literal, TypeAlias

from pydantic import Field

from tumbler.config import Settings

__all__ = ["OnUpdate", "TransformersSettings"]

OnUpdate: TypeAlias = Literal["abort", "keep", "drain"]


class TransformersSettings(Settings):
    """How the policy is served."""

    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of weights and cache. On processors without bfloat16 units float32 is the faster one."""
    weight_bits: Literal[0, 2, 3, 4, 5, 6, 7, 8] = 0
    """Bits to which each matrix is rounded before it is served, row by row; 0 rounds nothing. It saves no memory:
    it shows what a policy would do in a quantised engine, and lets engine mismatch be studied."""
    device: str = "cpu"
    """Where torch computes. Meant for "cpu"; "cuda" works, but launches several attention kernels for each layer."""
    max_batch: int = Field(default=64, ge=1)
    """Requests that are computed together; others wait."""
    cache_bytes: int = Field(default=1 << 30, ge=1 << 16)
    """Memory for keys and values. It is touched only as far as it is used; sessions unused longest make room."""
    prefill_chunk: int = Field(default=1024, ge=1)
    """Prompt tokens computed in one step beside the replies in progress; smaller steps delay those less."""
    on_update: OnUpdate = "abort"
    """What becomes of replies in progress when new weights arrive. `abort` breaks them off and goes on under the new
    weights, which compute the tokens so far again; `keep` goes on with the keys and values of the old weights;
    `drain` finishes them first."""
    canary_tolerance: float | None = Field(default=None, gt=0)
    """The most, in nats, by which the log-probabilities of an update's canary may differ on average; None goes by
    `dtype`, and by the type in which training computes if that is coarser. With `weight_bits` nothing is compared."""
    threads: int = Field(default=0, ge=0)
    """Processor threads for torch; 0 leaves torch's own choice."""
    request_timeout: float = Field(default=600.0, gt=0)
    """Seconds after which one request, or one change of weights, fails."""
    start_timeout: float = Field(default=600.0, gt=0)
    """Seconds for loading the model."""
