"""Makes the model folder that both sides start from: Qwen 2 with new weights, and a tokenizer of whole words.

Each word that the model can say is the spelling of a call (`$ w17`), so that every reply is a call of the agent
`react`, and no reply ends by itself: all have the same length on both sides, without a rule for sampling that would
cost either of them time. That is in the weights: coordinate 0 of the hidden states is constant, and the head weighs it
with a large negative number for all other words: their share of the probability is below 1e-12.
"""

import json
import re
from pathlib import Path

import torch
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import Qwen2Config, Qwen2ForCausalLM, Qwen2Tokenizer
from world import SYSTEM, WORDS

__all__ = ["SIZES", "make"]

SIZES = {"0.63M": (96, 4, 4, 248), "6.2M": (288, 6, 6, 696)}
"""Hidden size, layers, heads, feed-forward size."""

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
_LEARNT, _SPOKEN = 900, 256
_NEVER = -4.0


def make(folder: Path, size: str, template: str) -> int:
    """Write model and tokenizer and return the number of parameters."""
    tokenizer, spoken = _tokenizer(template)
    hidden, layers, heads, forward = SIZES[size]
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=forward,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=heads,
        max_position_embeddings=4096,
        tie_word_embeddings=False,
        bos_token_id=None,
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
    )
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config)
    _say_only(model, spoken)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return sum(each.numel() for each in model.parameters())


@torch.no_grad()
def _say_only(model: Qwen2ForCausalLM, spoken: list[int]) -> None:
    model.model.embed_tokens.weight[:, 0] = 1.0
    for layer in model.model.layers:
        layer.self_attn.o_proj.weight[0] = 0.0
        layer.mlp.down_proj.weight[0] = 0.0
    model.lm_head.weight[:, 0] = _NEVER
    model.lm_head.weight[spoken, 0] = 0.0


def _tokenizer(template: str) -> tuple[Qwen2Tokenizer, list[int]]:
    """Return a tokenizer that knows the words of the world, and the ids of the words that spell calls.

    Transformers gives every Qwen 2 this class, with pieces of its own: only the vocabulary is ours to choose.
    """
    trained = Tokenizer(BPE())
    trained.pre_tokenizer = Qwen2Tokenizer()._tokenizer.pre_tokenizer  # the pieces that it is going to be used with
    framing = re.sub(r"<\|im_\w+\|>", "", template) + "\nuser\nassistant\nsystem\n<tool_response>\n</tool_response>"
    texts = [SYSTEM, framing, *(f" {word} {word}" for word in WORDS), *WORDS]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = BpeTrainer(vocab_size=_LEARNT, min_frequency=1, initial_alphabet=alphabet, show_progress=False)
    trained.train_from_iterator(texts, trainer)
    learnt = json.loads(trained.to_str())["model"]
    tokens = [PAD, START, END, *sorted(learnt["vocab"], key=learnt["vocab"].__getitem__)]
    calls = [f"$Ġw{index}Ġ" for index in range(_SPOKEN)]
    ids = {token: index for index, token in enumerate([*tokens, *calls])}
    tokenizer = Qwen2Tokenizer(
        vocab=ids,
        merges=[tuple(pair) for pair in learnt["merges"]],
        pad_token=PAD,
        eos_token=END,
        unk_token=None,
        additional_special_tokens=[START],
        chat_template=template,
    )
    return tokenizer, [ids[each] for each in calls]
