"""A policy made ready for training: loaded, adapted, put on its device, and split where that is asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from accelerate import Accelerator
from transformers import PreTrainedModel

from tumbler.contracts.inference import Canary
from tumbler.errors import MissingExtraError, RunError
from tumbler_backends.training.canary import canary_tokens
from tumbler_backends.training.torch.collate import whole_sequence
from tumbler_backends.training.torch.parallel.strategy import Forward, Strategy, Whole
from tumbler_backends.training.torch.parallel.team import Team
from tumbler_backends.training.torch.policy import Policy, load_policy
from tumbler_backends.training.torch.settings import LoraSettings, TorchTrainingSettings
from tumbler_backends.training.torch.weights import PolicyWeights

if TYPE_CHECKING:
    from tumbler_backends.training.torch.adapter import Adapter

__all__ = ["Prepared", "new_accelerator", "prepare"]


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The policy, and what has to be known of how it was prepared."""

    policy: Policy
    forward: Forward
    """What to call in the policy's place."""
    strategy: Strategy
    weights: PolicyWeights
    adapter: "Adapter | None"
    dtype: str
    """What the policy is computed in: mixed precision, or else the type of the weights."""

    @torch.no_grad()
    def canary(self) -> Canary:
        """Score the canary with the policy as it is; all trainers of a team must ask, since they may have to compute
        it together.
        """
        token_ids = canary_tokens(self.policy.model.config)
        scores = self.forward(whole_sequence(token_ids, device=self.strategy.device))
        return Canary(token_ids=token_ids, logprobs=tuple(scores.logprobs.tolist()), dtype=self.dtype)


def prepare(folder: Path, settings: TorchTrainingSettings, *, team: Team, seed: int) -> Prepared:
    """Load a model folder; `seed` decides how an adapter begins."""
    strategy = _strategy(settings, team)
    policy = load_policy(folder, settings)
    adapter = None if settings.lora is None else _adapter(policy.model, settings.lora, seed=seed)
    return Prepared(
        policy=policy,
        forward=strategy.prepare(policy),
        strategy=strategy,
        weights=PolicyWeights(policy.model, strategy, adapter),
        adapter=adapter,
        dtype="bfloat16" if settings.mixed_precision == "bf16" else settings.dtype,
    )


def new_accelerator(settings: TorchTrainingSettings) -> Accelerator:
    """Return an Accelerator; raise `RunError` if its mixed precision is not that of others in this process."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    try:
        return Accelerator(mixed_precision=settings.mixed_precision)
    except ValueError as error:
        raise RunError(
            f"mixed_precision = {settings.mixed_precision!r} cannot be had: another training backend of this "
            "process has chosen otherwise; give all of them the same value, or use one process for each"
        ) from error


def _strategy(settings: TorchTrainingSettings, team: Team) -> Strategy:
    accelerator = new_accelerator(settings)
    if team.size > 1 and settings.strategy == "fsdp":
        # Not before it is asked for: it takes a second to import.
        from tumbler_backends.training.torch.parallel.sharded import Sharded

        return Sharded(team, accelerator)
    return Whole(team, accelerator)


def _adapter(model: PreTrainedModel, settings: LoraSettings, *, seed: int) -> "Adapter":
    try:
        from tumbler_backends.training.torch.adapter import Adapter
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "peft":
            raise
        raise MissingExtraError("the setting `lora` needs the package peft: pip install 'tumbler[lora]'") from error
    return Adapter(model, settings, seed=seed)
