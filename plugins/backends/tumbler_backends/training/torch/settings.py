"""The settings of the `torch` training backend; knows no tensor."""

from typing import Annotated, Literal

from pydantic import Field, field_validator

from tumbler.config import Settings

__all__ = ["LoraSettings", "OptimizerSettings", "TorchTrainingSettings", "ValueHeadSettings"]

Beta = Annotated[float, Field(ge=0, lt=1)]


class OptimizerSettings(Settings):
    """AdamW and its schedule for one phase; the schedule counts optimizer steps."""

    learning_rate: float = Field(default=1e-5, gt=0)
    """The highest learning rate, reached after the warm-up."""
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    """AdamW's decay rates of the first and second moment."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's decoupled weight decay; vectors (norms and biases) are never decayed."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps over which the learning rate climbs in a line to its highest; 0 starts there."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """How the learning rate goes on after the warm-up, until the phase's last optimizer step."""
    min_learning_rate: float = Field(default=0.0, ge=0)
    """Where `cosine` and `linear` end."""
    max_grad_norm: float = Field(default=1.0, ge=0)
    """The gradient is scaled down to this norm; 0 leaves it alone."""


class ValueHeadSettings(Settings):
    """The value head that is trained beside the policy where an algorithm asks for values.

    It has its own place in the optimizer of `rl`: with that one's betas, without weight decay, and clipped
    together with the policy. It is in checkpoints, but in no model folder and in no published weights.
    """

    learning_rate: float = Field(default=1e-4, gt=0)
    """The head's highest learning rate; it warms up and falls in proportion to the policy's."""
    detach: bool = False
    """Whether the loss of the values stops at the head, so that it moves no weight of the policy."""


class LoraSettings(Settings):
    """Low-rank adaptation with peft: two small matrices are trained beside each chosen one, which stays frozen.

    Only the chosen matrices are published, with the change in them; checkpoints hold the adapter beside the
    changed model.
    """

    rank: int = Field(default=16, gt=0)
    """Of the change that an adapted matrix can take."""
    alpha: int = Field(default=32, gt=0)
    """The change is multiplied by `alpha` over `rank`."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """How much of an adapter's input is dropped in passes that learn; above 0, what they see is not the policy that
    samples, and differs with the number of processes."""
    target_modules: tuple[str, ...] = ()
    """Names of the layers to adapt, or their ends, such as `q_proj`; none stands for all linear layers but the
    output head."""


class TorchTrainingSettings(Settings):
    """How the PyTorch training backend computes; what it computes is the algorithm's to say."""

    sft: OptimizerSettings = OptimizerSettings(learning_rate=1e-5)
    """The optimizer of supervised steps."""
    rl: OptimizerSettings = OptimizerSettings(learning_rate=1e-6)
    """The optimizer of the algorithm's steps."""
    value_head: ValueHeadSettings = ValueHeadSettings()
    """The value head of algorithms that ask for values; it is made when the first of them takes a step."""
    lora: LoraSettings | None = None
    """Train an adapter instead of the weights themselves; needs the package `peft`. Without it all weights are
    trained."""
    processes: int = Field(default=1, gt=0)
    """Processes on this machine that train together, each a share of every batch. With 1 the training runs in the
    process of the run itself; with more there is one worker for each GPU or, without any, on the CPU."""
    strategy: Literal["ddp", "fsdp"] = "ddp"
    """How several processes share the work; it changes no result. `ddp`: each has all weights. `fsdp`: each keeps
    its part of weights, gradients and optimizer, and gathers a layer's when it computes it."""
    worker_patience: float = Field(default=600.0, gt=0)
    """Seconds without any progress after which the worker processes are taken to hang, and the run ends. A pass over
    one micro-batch is progress."""
    micro_batch_tokens: int = Field(default=8192, gt=0)
    """Tokens that one forward pass computes, padding included. It bounds memory and changes no result; a trajectory is
    never split, so one that is longer passes alone."""
    share_prefixes: bool = True
    """Whether tokens that several trajectories begin with, such as a replayed prefix, are computed once for all
    of them in a forward pass. It changes no result; a model that cannot do so computes them separately, and
    `train/shared_share` stays 0."""
    dtype: Literal["float32", "bfloat16", "float64"] = "float32"
    """The type of the weights in training. Small updates are lost in bfloat16: prefer `mixed_precision`."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """What Accelerate computes the forward pass in; one value for all backends of a process."""
    gradient_checkpointing: bool = False
    """Whether activations are computed again in the backward pass instead of being kept."""
    threads: int = Field(default=0, ge=0)
    """PyTorch's CPU threads for one operation, set for each process; 0 leaves PyTorch's own choice, or with several
    processes gives each its share of the cores."""
    snapshots: int = Field(default=2, ge=0)
    """Published policy versions whose weights are kept for algorithms with `old_policy = "snapshot"`, and
    written into checkpoints; each takes the memory of the weights once. 0 keeps none."""
    max_skipped_steps: int = Field(default=3, ge=0)
    """How many optimizer steps in a row may be skipped because loss or gradient is not finite; one more ends
    the run. 0 ends it at the first."""

    @field_validator("strategy", mode="before")
    @classmethod
    def _no_deepspeed(cls, value: object) -> object:
        if value == "deepspeed":
            raise ValueError(
                "'deepspeed' is not offered: through Accelerate it steps within the last backward pass, when what the "
                "loss counts in all processes is not known yet; 'fsdp' splits the same things as ZeRO's third stage"
            )
        return value
