"""Settings of the execution backend `ray`; imports no Ray."""

from typing import Literal

from pydantic import Field, JsonValue, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from tumbler.config import Settings

__all__ = ["RaySettings"]


class RaySettings(Settings):
    """Which cluster, what runs there, and how it is placed."""

    address: str = ""
    """The cluster: empty starts one on this machine for the run, "auto" joins the one that runs here or that
    RAY_ADDRESS names, anything else is the address of one."""
    workers: PositiveInt = 2
    """Actors that run episodes."""
    episodes: PositiveInt = 32
    """Rollouts in flight in each worker at most; each holds a sandbox, if its environment needs one."""
    worker_cpus: NonNegativeFloat = 1.0
    """Processors that each worker is counted with."""
    worker_gpus: NonNegativeFloat = 0.0
    """GPUs for each worker."""
    engines: PositiveInt = 1
    """Replicas of the inference backend, and of the teacher's if there is one; sessions are spread over them."""
    engine_cpus: NonNegativeFloat = 1.0
    """Processors that each replica is counted with."""
    engine_gpus: NonNegativeFloat = 0.0
    """GPUs for each replica."""
    trainer: bool = True
    """Whether training runs in an actor of its own; otherwise it stays in the process that leads the run."""
    trainer_cpus: NonNegativeFloat = 1.0
    """Processors that the trainer is counted with."""
    trainer_gpus: NonNegativeFloat = 0.0
    """GPUs for the trainer."""
    strategy: Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"] = "PACK"
    """How workers, and how replicas, are placed on nodes, as Ray calls it: close together or far apart, if possible
    or else not at all."""
    restarts: NonNegativeInt = 32
    """How many workers that die are replaced, in all, and how often each replica is."""
    runtime_env: dict[str, JsonValue] = Field(default_factory=dict)
    """Ray's runtime environment of all actors, handed on as it is: `env_vars`, `working_dir`, `pip` and others."""
    object_store_memory: NonNegativeInt = 0
    """Bytes of the object store of a cluster that is started here; 0 leaves Ray's own choice."""
    log_to_driver: bool = False
    """Whether what actors print appears on this terminal; it is in Ray's log folder either way."""
    start_timeout: PositiveFloat = 600.0
    """Seconds for placing and starting each kind of actor: plugins and models loaded, the agent prepared."""
    request_timeout: PositiveFloat = 600.0
    """Seconds for one reply of an engine, and for one change of weights."""
    step_timeout: PositiveFloat = 24 * 3600.0
    """Seconds for one call of the trainer: a training step, a checkpoint."""
