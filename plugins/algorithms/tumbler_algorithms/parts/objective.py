"""Settings of a loss per token: what it is averaged over, corrected by and regularised with. Imports no torch."""

from typing import Literal, Self, TypeAlias

from pydantic import PositiveInt, model_validator

from tumbler_algorithms.parts.settings import CorrectionSettings, RegularisedSettings

__all__ = ["Normalisation", "ObjectiveSettings", "RatioLevel"]

Normalisation: TypeAlias = Literal["sum", "chunk-mean", "trajectory-mean", "token-mean", "constant"]

RatioLevel: TypeAlias = Literal["token", "chunk", "trajectory"]
"""What one ratio belongs to: a token, a chunk, or all trained tokens of a trajectory, whatever their segments."""


class ObjectiveSettings(RegularisedSettings):
    """What algorithms that start every rollout at the beginning have in common."""

    normalisation: Normalisation = "token-mean"
    """What the loss is averaged over: trajectories (`sum`), chunks after a mean over each one's tokens,
    trajectories after a mean over each one's tokens, all tokens alike, or trajectories after division by one
    constant length. Masked tokens never count."""

    constant_length: PositiveInt | None = None
    """Tokens that stand for every trajectory's length with `normalisation = "constant"`; None otherwise."""

    correction: CorrectionSettings = CorrectionSettings()
    """What is masked or weighed where the training engine and the inference engine disagree."""

    @model_validator(mode="after")
    def _length_fits_normalisation(self) -> Self:
        if (self.normalisation == "constant") != (self.constant_length is not None):
            raise ValueError(
                'constant_length goes with normalisation = "constant" and with nothing else: '
                f"found normalisation = {self.normalisation!r} and constant_length = {self.constant_length}"
            )
        return self

    @model_validator(mode="after")
    def _correction_has_a_gap(self) -> Self:
        if self.old_policy == "behaviour" and (self.correction.mask, self.correction.weight) != ("none", "none"):
            raise ValueError(
                f'correction with mask = "{self.correction.mask}" and weight = "{self.correction.weight}" does nothing '
                'with old_policy = "behaviour": π_old is then what the inference engine said, so that no gap is seen; '
                'set old_policy = "recompute" or "snapshot", or leave the correction out'
            )
        return self
