"""The policy in training: a Hugging Face causal LM that scores tokens. S loss tokens, V vocabulary, H hidden size."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel
from transformers.utils import logging
from transformers.utils.logging import disable_progress_bar

from tumbler.errors import RunError
from tumbler_backends.training.torch.collate import Batch
from tumbler_backends.training.torch.settings import TorchTrainingSettings

__all__ = ["Policy", "load_policy", "quiet"]

LOGITS_AT_ONCE = 1 << 25
"""Logits that are held at once: 128 MiB in float32."""


class Policy(nn.Module):
    """Scores the tokens of a batch, computing logits only where a loss needs them.

    Rows are right-padded and attention is causal, so no token of a loss sees padding: the model gets
    neither an attention mask nor position ids, and takes its fastest attention path. Dropout is off,
    so that log-probabilities are those of the policy that samples.
    """

    def __init__(self, model: PreTrainedModel, *, logits_at_once: int = LOGITS_AT_ONCE) -> None:
        super().__init__()
        self.model = model
        self._logits_at_once = logits_at_once
        self._splits = _logits_are_head_of_states(model)

    @property
    def splits(self) -> bool:
        """Return whether the hidden states are selected before the output head; else all logits are computed."""
        return self._splits

    def forward(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return [S] log-probabilities of the loss tokens and [S] entropies, the latter without gradient.

        Both are in float32, or in the weights' type if that is wider.
        """
        targets = batch.token_ids.flatten()[batch.positions]
        states = self._states(batch)
        temperatures = torch.ones_like(targets) if batch.temperatures is None else batch.temperatures
        block = max(1, self._logits_at_once // self.model.config.get_text_config().vocab_size)
        if len(targets) <= block:
            return self._score(states, targets, batch.temperatures)
        # Logits of one block at a time: they are computed again in the backward pass instead of being kept.
        scores = [
            checkpoint(self._score, *parts, use_reentrant=False)
            for parts in zip(*(torch.split(each, block) for each in (states, targets, temperatures)), strict=True)
        ]
        return torch.cat([logprobs for logprobs, _ in scores]), torch.cat([entropies for _, entropies in scores])

    def _states(self, batch: Batch) -> Tensor:
        """Return what predicts each loss token: [S, H] hidden states, or [S, V] logits if they cannot be split."""
        if self._splits:
            states = self.model.base_model(input_ids=batch.token_ids, use_cache=False).last_hidden_state
        else:
            states = self.model(input_ids=batch.token_ids, use_cache=False).logits
        return cast("Tensor", states.flatten(0, 1).index_select(0, batch.positions - 1))

    def _score(self, states: Tensor, targets: Tensor, temperatures: Tensor | None) -> tuple[Tensor, Tensor]:
        logits = _head(self.model)(states) if self._splits else states
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        if temperatures is not None:
            logits = logits / temperatures.unsqueeze(-1)
        logprobs = torch.log_softmax(logits, dim=-1)
        with torch.no_grad():
            # Clamped, since a forbidden token's probability 0 times its -inf would be NaN.
            entropies = -(logprobs.exp() * logprobs.clamp_min(torch.finfo(logprobs.dtype).min)).sum(-1)
        return logprobs.gather(-1, targets.unsqueeze(-1)).squeeze(-1), entropies

    def copy_weights(self) -> dict[str, Tensor]:
        """Return a copy of all weights by their Hugging Face names.

        Tied weights appear under each of their names, as one tensor.
        """
        copies: dict[int, Tensor] = {}
        weights: dict[str, Tensor] = {}
        for name, tensor in self.model.state_dict().items():
            if tensor.data_ptr() not in copies:
                copies[tensor.data_ptr()] = tensor.detach().clone()
            weights[name] = copies[tensor.data_ptr()]
        return weights

    def score_with(self, weights: Mapping[str, Tensor], batch: Batch) -> tuple[Tensor, Tensor]:
        """Return what `forward` would return with other weights, as `copy_weights` gave them."""
        named = {f"model.{name}": tensor for name, tensor in weights.items()}
        return cast("tuple[Tensor, Tensor]", torch.func.functional_call(self, named, (batch,)))


def load_policy(folder: Path, settings: TorchTrainingSettings) -> Policy:
    """Load a model folder in Hugging Face format; raise `RunError` if there is none."""
    if not (folder / "config.json").is_file():
        raise RunError(
            f"no model to train in {folder}: expected a folder in Hugging Face format with config.json, "
            "weights and tokenizer files"
        )
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    if settings.gradient_checkpointing:
        _switch_dropout_off(config)
    with quiet():
        disable_progress_bar()  # the run has a display of its own
        model = AutoModelForCausalLM.from_pretrained(
            folder, config=config, dtype=getattr(torch, settings.dtype), local_files_only=True
        )
    policy = Policy(model)
    policy.eval()
    if settings.gradient_checkpointing:
        _enable_checkpointing(model)
        # Hugging Face models checkpoint in training mode only.
        policy.train()
    return policy


@contextmanager
def quiet() -> Iterator[None]:
    """Hide the progress bars of loading and saving: a run has a progress display of its own."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _enable_checkpointing(model: PreTrainedModel) -> None:
    # transformers 5 renamed the method within the major version.
    renamed = getattr(model, "activation_checkpointing_enable", None)
    enable = renamed or model.gradient_checkpointing_enable
    enable({"use_reentrant": False})


def _switch_dropout_off(config: PretrainedConfig) -> None:
    for name, value in config.to_dict().items():
        if isinstance(value, float) and ("dropout" in name or "pdrop" in name or "layerdrop" in name):
            setattr(config, name, 0.0)


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
