"""The settings of the `trl` training backend; knows no tensor."""

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, PositiveInt, model_validator

from tumbler.config import Settings

__all__ = ["LossSettings", "LossType", "OptimizerSettings", "TRLTrainingSettings"]

Beta = Annotated[float, Field(ge=0, lt=1)]
LossType: TypeAlias = Literal["bnpo", "cispo", "dapo", "dr_grpo", "grpo", "luspo", "sapo", "vespo"]


class OptimizerSettings(Settings):
    """AdamW and its schedule for one phase, both as Hugging Face's Trainer makes them."""

    learning_rate: float = Field(default=1e-5, gt=0)
    """The highest learning rate."""
    betas: tuple[Beta, Beta] = (0.9, 0.95)
    """AdamW's decay rates of the first and second moment."""
    weight_decay: float = Field(default=0.0, ge=0)
    """AdamW's decoupled weight decay; norms and biases are never decayed."""
    warmup_steps: int = Field(default=0, ge=0)
    """Optimizer steps over which the learning rate climbs in a line, from 0 in the first; 0 starts at the highest."""
    schedule: Literal["constant", "cosine", "linear"] = "constant"
    """How the learning rate goes on after the warm-up; `cosine` and `linear` fall to 0 after the phase's last step."""
    max_grad_norm: float = Field(default=1.0, ge=0)
    """The gradient is scaled down to this norm; 0 leaves it alone."""


class LossSettings(Settings):
    """The loss of RL steps. Names and meanings are those of TRL's `GRPOConfig`, with exceptions where noted."""

    loss_type: LossType = "dapo"
    """Which of TRL's losses is taken, and what it is averaged over. `dapo`, `cispo`, `vespo` and `bnpo` average
    over all trained tokens, the others over rows, and a trajectory whose context was rewritten has several."""
    epsilon: float = Field(default=0.2, ge=0)
    """How far below 1 a ratio may fall before a push downwards stops."""
    epsilon_high: float | None = Field(default=None, ge=0)
    """How far above 1 a ratio may rise before a push upwards stops; None takes `epsilon`. For `cispo`, the
    highest ratio itself."""
    delta: float | None = Field(default=None, gt=1)
    """Upper bound of the unclipped ratio in the two-sided loss; None for no bound."""
    beta: float = Field(default=0.0, ge=0)
    """Weight of the divergence from the weights with which the phase began; 0 leaves it out, and spares the
    memory of those weights."""
    use_bias_correction_kl: bool = True
    """Whether the divergence is multiplied by the importance ratio."""
    importance_sampling_level: Literal["sequence", "token"] = "token"
    """Whether each token has a ratio of its own or a row has one (GSPO)."""
    max_completion_length: PositiveInt = 512
    """Tokens that stand for every row's length with `loss_type = "dr_grpo"`; nothing is cut to it."""
    off_policy_mask_threshold: float | None = Field(default=None, gt=0)
    """Rows with a negative advantage are left out when the sampler's log-probabilities lie this far above the
    policy's, in the mean over their tokens; None keeps all."""
    sapo_temperature_pos: float = Field(default=1.0, gt=0)
    """Temperature of `sapo` for tokens with a positive advantage."""
    sapo_temperature_neg: float = Field(default=1.05, gt=0)
    """Temperature of `sapo` for the other tokens."""
    vespo_k_pos: float = Field(default=2.0, ge=0)
    """Power of `vespo` for positive advantages."""
    vespo_lambda_pos: float = Field(default=3.0, ge=0)
    """Decay of `vespo` for positive advantages."""
    vespo_k_neg: float = Field(default=3.0, ge=0)
    """Power of `vespo` for negative advantages."""
    vespo_lambda_neg: float = Field(default=2.0, ge=0)
    """Decay of `vespo` for negative advantages."""
    sampling_correction: Literal["none", "sequence_mask", "sequence_truncate", "token_mask", "token_truncate"] = "none"
    """How the loss is weighted by the ratio of the training engine's probabilities to those of the inference
    engine: TRL's `vllm_importance_sampling_mode`, for whichever engine sampled."""
    sampling_clip_max: float | None = Field(default=3.0, gt=0)
    """Bound above of that ratio: `truncate` stops there, `mask` leaves out what lies beyond; None for no bound."""
    sampling_clip_min: float | None = Field(default=None, ge=0)
    """Bound below of that ratio; None for no bound."""

    @model_validator(mode="after")
    def _settings_go_together(self) -> Self:
        if self.loss_type == "cispo" and self.epsilon_high is None:
            raise ValueError('loss_type = "cispo" needs epsilon_high, the highest ratio itself, such as 5.0')
        if self.loss_type == "vespo" and self.sampling_correction.startswith("sequence"):
            raise ValueError(
                'loss_type = "vespo" goes with a sampling_correction for tokens or with none: '
                f"found {self.sampling_correction!r}"
            )
        return self


class TRLTrainingSettings(Settings):
    """How TRL's trainers compute. In RL the loss is TRL's too: the algorithm gives the advantages and the passes."""

    sft: OptimizerSettings = OptimizerSettings(learning_rate=1e-5)
    """The optimizer of supervised steps."""
    rl: OptimizerSettings = OptimizerSettings(learning_rate=1e-6)
    """The optimizer of RL steps."""
    loss: LossSettings = LossSettings()
    """The loss of RL steps."""
    micro_batch_tokens: int = Field(default=8192, gt=0)
    """Tokens of one forward pass, padding included. It bounds memory and changes no result; a row is never
    split, so one that is longer passes alone."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """The type of the weights in training. Small updates are lost in bfloat16: prefer `mixed_precision`."""
    mixed_precision: Literal["no", "bf16"] = "no"
    """What the forward pass is computed in."""
    gradient_checkpointing: bool = False
    """Whether activations are computed again in the backward pass instead of being kept."""
    threads: int = Field(default=0, ge=0)
    """PyTorch's CPU threads for one operation, set for the process; 0 leaves PyTorch's own choice."""
    max_skipped_steps: int = Field(default=3, ge=0)
    """How many optimizer steps in a row may be skipped because loss or gradient is not finite; one more ends
    the run. 0 ends it at the first."""
