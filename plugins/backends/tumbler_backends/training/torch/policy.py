"""The policy in training: a Hugging Face causal LM that scores tokens. S loss tokens, V vocabulary, H hidden size."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from tumbler.errors import RunError
from tumbler_backends.training.folders import enable_checkpointing, load_model
from tumbler_backends.training.torch.collate import Batch, one_token
from tumbler_backends.training.torch.settings import TorchTrainingSettings
from tumbler_backends.training.torch.tree_attention import enable_packing, packed_inputs

__all__ = ["Policy", "Scores", "load_policy", "state_size"]

LOGITS_AT_ONCE = 1 << 25
"""Logits that are held at once: 128 MiB in float32."""


class Scores(NamedTuple):
    """What a forward pass tells of the loss tokens, in float32 or in the weights' type if that is wider."""

    logprobs: Tensor
    """[S], with gradient."""
    entropies: Tensor
    """[S] of what each token was drawn from; with gradient only if asked for."""
    states: Tensor | None
    """[S, H] the hidden states that predict them, in the model's own type and with gradient; None unless asked for."""


class Policy(nn.Module):
    """Scores the tokens of a batch, computing logits only where a loss needs them.

    Rows are right-padded and attention is causal, so no token of a loss sees padding: the model gets
    neither an attention mask nor position ids, and takes its fastest attention path. With
    `share_prefixes`, models that can (see `enable_packing`) compute what rows have in common once.
    Dropout is off, so that log-probabilities are those of the policy that samples.
    """

    def __init__(
        self, model: PreTrainedModel, *, logits_at_once: int = LOGITS_AT_ONCE, share_prefixes: bool = False
    ) -> None:
        super().__init__()
        self.model = model
        self._logits_at_once = logits_at_once
        self._splits = _logits_are_head_of_states(model)
        self._shares = share_prefixes and enable_packing(model)

    @property
    def shares(self) -> bool:
        """Return whether a prefix that rows have in common is computed once."""
        return self._shares

    @property
    def splits(self) -> bool:
        """Return whether the hidden states are selected before the output head; else all logits are computed."""
        return self._splits

    def forward(self, batch: Batch, *, entropy_gradient: bool = False, with_states: bool = False) -> Scores:
        """Score the loss tokens; entropies carry a gradient and states are handed over only where it is asked for."""
        targets = batch.token_ids.flatten()[batch.positions]
        predictors, states = self._predictors(batch, with_states=with_states)
        temperatures = torch.ones_like(targets) if batch.temperatures is None else batch.temperatures
        block = max(1, self._logits_at_once // self.model.config.get_text_config().vocab_size)
        if len(targets) <= block:
            return Scores(*self._score(predictors, targets, batch.temperatures, entropy_gradient), states)
        # Logits of one block at a time: they are computed again in the backward pass instead of being kept.
        parts = [
            checkpoint(self._score, *part, entropy_gradient, use_reentrant=False)
            for part in zip(*(torch.split(each, block) for each in (predictors, targets, temperatures)), strict=True)
        ]
        return Scores(torch.cat([each for each, _ in parts]), torch.cat([each for _, each in parts]), states)

    def _predictors(self, batch: Batch, *, with_states: bool) -> tuple[Tensor, Tensor | None]:
        """Return what the scores are made of, and the [S, H] hidden states if they are asked for.

        Scores are made of the hidden states, or of [S, V] logits if they are more than the head of those.
        """
        inputs, predicting = self._inputs(batch)
        if self._splits:
            output = self.model.base_model(**inputs, use_cache=False)
            states = _select(output.last_hidden_state, predicting)
            return states, states if with_states else None
        output = self.model(**inputs, use_cache=False, output_hidden_states=with_states)
        logits = _select(output.logits, predicting)
        if not with_states:
            return logits, None
        if not output.hidden_states:
            raise RunError(
                f"{type(self.model).__name__} does not hand over its hidden states, so that there is nothing for a "
                "value head to read; use another model, or an algorithm without values"
            )
        return logits, _select(output.hidden_states[-1], predicting)

    def _inputs(self, batch: Batch) -> tuple[dict[str, Any], Tensor]:
        """Return what to call the model with, and [S] which of its outputs, flattened, predict the loss tokens."""
        before = batch.positions - 1
        packed = batch.packed if self._shares else None
        if packed is None:
            return {"input_ids": batch.token_ids}, before
        return packed_inputs(packed), packed.of_rows.flatten()[before]

    def _score(
        self, states: Tensor, targets: Tensor, temperatures: Tensor | None, entropy_gradient: bool
    ) -> tuple[Tensor, Tensor]:
        logits = _head(self.model)(states) if self._splits else states
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if temperatures is not None:
            logits = logits / temperatures.unsqueeze(-1)
        logprobs = torch.log_softmax(logits, dim=-1)
        with torch.set_grad_enabled(entropy_gradient and torch.is_grad_enabled()):
            # Clamped, since a forbidden token's probability 0 times its -inf would be NaN.
            entropies = -(logprobs.exp() * logprobs.clamp_min(torch.finfo(logprobs.dtype).min)).sum(-1)
        return logprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1), entropies

    def score_with(self, weights: Mapping[str, Tensor], batch: Batch) -> Scores:
        """Return what `forward` would return with other weights, by the model's names; the rest are its own."""
        named = {f"model.{name}": tensor for name, tensor in weights.items()}
        return cast("Scores", torch.func.functional_call(self, named, (batch,)))


def load_policy(folder: Path, settings: TorchTrainingSettings) -> Policy:
    """Load a model folder in Hugging Face format; raise `RunError` if there is none."""
    # Out of training mode there is no dropout anyway.
    model = load_model(folder, dtype=settings.dtype, dropout=not settings.gradient_checkpointing)
    policy = Policy(model, share_prefixes=settings.share_prefixes)
    policy.eval()
    if settings.gradient_checkpointing:
        enable_checkpointing(model)
        # Hugging Face models checkpoint in training mode only.
        policy.train()
    return policy


@torch.no_grad()
def state_size(forward: Callable[..., Scores], device: torch.device) -> int:
    """Return H of the policy behind `forward`; raise `RunError` if its model does not hand over its hidden states."""
    states = forward(one_token(device), with_states=True).states
    assert states is not None, "states were asked for"
    return states.shape[-1]


def _select(outputs: Tensor, indices: Tensor) -> Tensor:
    """Return outputs [R, T, ...] as [S, ...]."""
    return outputs.flatten(0, 1).index_select(0, indices)


def _head(model: PreTrainedModel) -> nn.Module:
    return cast("nn.Module", model.get_output_embeddings())


@torch.no_grad()
def _logits_are_head_of_states(model: PreTrainedModel) -> bool:
    """Return whether the logits are the output head of the last hidden states and nothing more.

    Some models scale or cap their logits. The probe amplifies the head's input, so that a cap which
    small logits never reach is seen as well.
    """
    base, head = model.base_model, _head(model)
    if base is model or not isinstance(head, nn.Module):
        return False
    token_ids = torch.arange(8, device=model.device).remainder(model.config.get_text_config().vocab_size)[None]
    states = base(input_ids=token_ids, use_cache=False).last_hidden_state
    gain = 50 / head(states).float().std()
    hook = head.register_forward_pre_hook(lambda _, args: (args[0] * gain.to(args[0].dtype),))
    try:
        logits = model(input_ids=token_ids, use_cache=False).logits
        expected = head(states)
    finally:
        hook.remove()
    tolerance = 1e-2 if model.dtype == torch.bfloat16 else 1e-4
    return torch.allclose(logits.float(), expected.float(), rtol=tolerance, atol=tolerance)
