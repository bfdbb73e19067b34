"""The settings of the `vllm` inference backend; imports no vLLM and no torch."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from tumbler.config import Settings

__all__ = ["VllmSettings"]

EngineArgument = str | int | float | bool | None
Address = Annotated[str, Field(pattern=r"^[^\s:/]+:\d{1,5}$")]


class VllmSettings(Settings):
    """Where the servers are, or how they are launched."""

    python: Path | None = None
    """The Python of the environment that has vLLM. None is `TUMBLER_VLLM_PYTHON`, or what
    `tools/vllm-environment.sh` has made in `~/.cache/tumbler/vllm`."""
    engine: dict[str, EngineArgument] = Field(default_factory=dict)
    """vLLM's engine arguments, such as `max_num_seqs` or `gpu_memory_utilization`, over those of the backend."""
    environment: dict[str, str] = Field(default_factory=dict)
    """Environment variables of the servers, such as `VLLM_CPU_KVCACHE_SPACE` or `CUDA_VISIBLE_DEVICES`. In a value,
    `{replica}` is the replica's number, from 0."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of weights and cache. On processors without bfloat16 units float32 is the faster one."""
    replicas: int = Field(default=1, ge=1)
    """Servers to launch. A session stays with one of them; new ones go where the fewest requests are."""
    port: int = Field(default=0, ge=0, le=65535)
    """The first server's port on the loopback interface, the others' follow; 0 takes free ones."""
    restarts: int = Field(default=3, ge=0)
    """How often each server that dies is started again, with the weights that are current then."""
    addresses: tuple[Address, ...] = ()
    """Servers that run already, as `host:port`; none are launched then. They must see `transfer_folder`, and serve
    one run at a time."""
    secret: SecretStr | None = None
    """The secret of the servers in `addresses`, which they have from their variable `TUMBLER_VLLM_SECRET`."""
    on_update: Literal["abort", "drain"] = "abort"
    """What becomes of replies in progress when new weights arrive: `abort` breaks them off and goes on under the new
    weights, `drain` finishes them first."""
    transfer_folder: Path | None = None
    """Where weights are handed over, in files that are removed. None is shared memory where there is room, else the
    temporary folder."""
    canary_tolerance: float | None = Field(default=None, gt=0)
    """The most, in nats, by which the log-probabilities of an update's canary may differ on average; None goes by
    `dtype`, and by the type in which training computes if that is coarser."""
    request_timeout: float = Field(default=600.0, gt=0)
    """Seconds after which one request, or one change of weights, fails."""
    start_timeout: float = Field(default=600.0, gt=0)
    """Seconds for a server to load the model."""

    @model_validator(mode="after")
    def _either_launched_or_attached(self) -> "VllmSettings":
        launched = {"python", "engine", "environment", "replicas", "port"} & self.model_fields_set
        if self.addresses and launched:
            raise ValueError(f"addresses name servers that run already; {', '.join(sorted(launched))} cannot be set")
        if bool(self.addresses) != (self.secret is not None):
            raise ValueError(
                "addresses and secret are set together: attached servers have a secret, launched ones none"
            )
        return self
