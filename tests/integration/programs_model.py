"""A small model for what programs say: a real tokenizer, a Llama of thousands of weights, and replies in odd pieces."""

import re
from collections.abc import Callable
from pathlib import Path
from random import Random

import torch
from tests.integration.tokens_templates import CHATML, CONTROL
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from tumbler.contracts.inference import TextTokenizer

CONTEXT = 200_000
"""Tokens that the model takes: what Qwen Code says of itself and of its tools fills tens of thousands."""
_DOCS = Path(__file__).parents[2] / "docs"
_TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
_TAG = re.compile(r"(<[^>]*>)")


def make_model(folder: Path, *, context: int = CONTEXT) -> Path:
    """Write a model folder; its tokenizer has learnt English and code from the documentation."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=3000, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([page.read_text() for page in sorted(_DOCS.glob("*.md"))], trainer)
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in CONTROL])
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in _TAGS])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", chat_template=CHATML)
    fast.save_pretrained(folder)
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=context,
    )
    logging.disable_progress_bar()
    LlamaForCausalLM(config).save_pretrained(folder)
    logging.enable_progress_bar()
    return folder


def odd_pieces(tokenizer: TextTokenizer) -> Callable[[str, int], list[int]]:
    """Return how a text is sampled by a seed: cut anywhere but in tags, so that it gives other ids again."""

    def ids(text: str, seed: int) -> list[int]:
        random = Random(seed)
        found: list[int] = []
        for part in _TAG.split(text):
            while part and not _TAG.fullmatch(part):
                cut = 1 + random.randrange(8)
                found += tokenizer.encode(part[:cut])
                part = part[cut:]
            found += tokenizer.encode(part)
        return found

    return ids
