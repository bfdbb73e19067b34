"""The inputs of TRL's losses. B rows, P tokens of prompt, C tokens of completion."""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from tumbler_backends.training.trl.rows import Row
from tumbler_backends.training.trl.settings import LossSettings

__all__ = ["Logprobs", "aligned", "policy_inputs", "prompt_and_completion", "share"]

Logprobs: TypeAlias = Mapping[Row, Tensor]
"""For each row, [tokens of the row] log-probabilities under some weights."""


def prompt_and_completion(rows: Sequence[Row]) -> dict[str, Tensor]:
    """Return the rows as prompts and completions; where a row's completion is not trained is for `tool_mask` to say.

    The prompt of all rows is as long as the shortest one: so none is padded on the left, which would move the
    tokens of models with absolute positions.
    """
    prompt = min(row.first for row in rows)
    completions = [row.tokens[prompt:] for row in rows]
    return {
        "prompt_ids": torch.tensor([row.tokens[:prompt] for row in rows]),
        "prompt_mask": torch.ones(len(rows), prompt, dtype=torch.int64),
        "completion_ids": _padded(completions),
        "completion_mask": _padded([[1] * len(each) for each in completions]),
        "tool_mask": _padded([row.mask[prompt:] for row in rows]),
    }


def policy_inputs(
    rows: Sequence[Row],
    old: Logprobs | None,
    reference: Logprobs | None,
    *,
    tokens: int,
    share: float,
    loss: LossSettings,
) -> dict[str, Tensor]:
    """Return what `GRPOTrainer` computes its loss from.

    Args:
        rows: of one micro-batch.
        old: log-probabilities under the policy that sampled; None if that is the policy in training.
        reference: log-probabilities under the reference; None without one.
        tokens: how many are trained by the whole optimizer step.
        share: what the micro-batch's loss is multiplied by.
        loss: how the inference engine's log-probabilities count.
    """
    parts = prompt_and_completion(rows)
    prompt = parts["prompt_ids"].shape[1]
    sampling = _padded([row.sampling_logprobs[prompt:] for row in rows])
    inputs: dict[str, Tensor] = {
        **parts,
        "advantages": torch.tensor([row.advantage for row in rows]),
        "sampling_per_token_logps": sampling,
        "num_items_in_batch": torch.tensor(float(tokens)),
        "share": torch.tensor(share),
    }
    if reference is not None:
        inputs["ref_per_token_logps"] = _completions(reference, rows, prompt)
    if old is not None:
        logprobs = inputs["old_per_token_logps"] = _completions(old, rows, prompt)
        if loss.sampling_correction != "none":
            mismatch = (logprobs - sampling.to(logprobs.device)) * parts["tool_mask"].to(logprobs.device)
            inputs["importance_sampling_ratio"] = _sampling_ratio(mismatch, loss)
    return inputs


def share(rows: Sequence[Row], of: Sequence[Row], *, batches: int, loss: LossSettings) -> float:
    """Return by what to multiply a micro-batch's loss, so that the mean over micro-batches is that of all rows.

    Args:
        rows: of the micro-batch.
        of: all rows of the optimizer step.
        batches: into how many micro-batches they are split.
        loss: what TRL takes the micro-batch's mean over.
    """
    if loss.loss_type in ("cispo", "dapo", "vespo"):
        return 1.0  # TRL divides by the tokens of the optimizer step by itself
    weigh: Callable[[Sequence[Row]], int] = _trained if loss.loss_type == "bnpo" else len
    return batches * weigh(rows) / weigh(of)


def aligned(row: Row, logprobs: Tensor, *, prompt: int) -> Tensor:
    """Return a completion's log-probabilities [C] with one for each token of the row, 0 for those of the prompt."""
    completion = logprobs[: len(row.tokens) - prompt]
    return torch.cat([completion.new_zeros(prompt), completion])


def _sampling_ratio(mismatch: Tensor, loss: LossSettings) -> Tensor:
    """Return TRL's importance sampling ratio of the training to the inference engine, [B, C] or [B, 1].

    Args:
        mismatch: [B, C] difference of their log-probabilities, 0 where nothing is trained.
        loss: the mode and its bounds, as TRL's `vllm_importance_sampling_mode`.
    """
    level, _, beyond = loss.sampling_correction.partition("_")
    ratio = (mismatch.sum(-1, keepdim=True) if level == "sequence" else mismatch).exp()
    low = 0.0 if loss.sampling_clip_min is None else loss.sampling_clip_min
    high = torch.inf if loss.sampling_clip_max is None else loss.sampling_clip_max
    if beyond == "truncate":
        return ratio.clamp(low, high)
    return ratio.masked_fill((ratio < low) | (ratio > high), 0.0)


def _completions(logprobs: Logprobs, rows: Sequence[Row], prompt: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence([logprobs[row][prompt:] for row in rows], batch_first=True)


def _trained(rows: Sequence[Row]) -> int:
    return sum(row.trained for row in rows)


def _padded(rows: Sequence[Sequence[float]]) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], batch_first=True)
