"""The model source `tiny`: a small new model whose tokenizer is made from the run's own texts.

The model is a Llama because transformers replaces the tokenizer of some other families by their own on loading.
"""

from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils.logging import disable_progress_bar

from tumbler_backends.models.settings import TinySettings
from tumbler_backends.models.word_tokenizer import END, PAD, make_word_tokenizer

__all__ = ["TinyModel"]


class TinyModel:
    """Builds a model small enough to learn a task on one processor core."""

    def __init__(self, settings: TinySettings) -> None:
        """Take the shape of the model."""
        self._settings = settings

    def prepare(self, folder: Path, *, texts: Iterable[str], seed: int) -> Path:
        """Write the model into `folder`; equal texts and seeds give equal files."""
        disable_progress_bar()  # the run has a display of its own
        settings = self._settings
        tokenizer = make_word_tokenizer(
            texts, vocabulary=settings.vocabulary, sample=settings.sample, context=settings.context
        )
        ids = tokenizer.get_vocab()
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings.width,
            intermediate_size=_feed_forward_width(settings.width),
            num_hidden_layers=settings.layers,
            num_attention_heads=settings.heads,
            num_key_value_heads=settings.heads,
            max_position_embeddings=settings.context,
            # Weights this large let attention patterns form in hundreds of steps; 0.02 is made for wide models.
            initializer_range=settings.width**-0.5,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=ids[END],
            pad_token_id=ids[PAD],
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = LlamaForCausalLM(config)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return folder


def _feed_forward_width(width: int) -> int:
    """Return 8/3 of the width, so that three matrices weigh as much as two of four times it, in steps of 32."""
    return -(-width * 8 // 3 // 32) * 32
