"""Real byte-level BPE tokenizers with chat templates of the kinds that models are published with."""

from collections.abc import Callable
from pathlib import Path
from random import Random

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, PreTrainedTokenizerFast

from tumbler_backends.inference.transformers.tokenizer import HuggingFaceTokenizer

CHATML = """\
{%- if messages[0].role != 'system' %}{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}{% endif %}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""
"""Adds a system prompt where there is none."""

THINKING = """\
{%- set ns = namespace(last=0, found=false) %}
{%- for message in messages[::-1] %}
    {%- set tool = message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>') %}
    {%- if not ns.found and message.role == 'user' and not tool %}
        {%- set ns.found = true %}
        {%- set ns.last = messages|length - 1 - loop.index0 %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role != 'assistant' %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- else %}
        {%- set rest = message.content.split('</think>')[-1].lstrip('\\n') %}
        {%- set thought = '' %}
        {%- if '</think>' in message.content %}
            {%- set thought = message.content.split('</think>')[0].split('<think>')[-1].strip('\\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.index0 > ns.last and (loop.last or thought) %}
            {{- '<think>\\n' + thought + '\\n</think>\\n\\n' }}
        {%- endif %}
        {{- rest + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""
"""Strips thinking from turns before the last word of the user, and shows an empty thought in the last turn, as
Qwen3's does."""

STRIPPING = """\
{{- '<|begin|>' }}
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n\\n' + message.content | trim + '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n\\n' }}{% endif %}"""
"""Strips whitespace, as Llama 3's does."""

ALTERNATING = """\
{%- set start = 1 if messages[0].role == 'system' else 0 %}
{{- '<|begin|>' }}
{%- for message in messages[start:] %}
    {%- if (message.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {%- set system = messages[0].content + '\\n\\n' if start and loop.first else '' %}
    {{- '<|im_start|>' + message.role + '\\n' + system + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{% endif %}"""
"""Wants user and assistant to take turns, and puts the system prompt into the first turn, as Mistral's and Gemma's
do."""

OPENED = CHATML.replace(
    "'<|im_start|>assistant\\n' }}{% endif %}", "'<|im_start|>assistant\\n<think>\\n' }}{% endif %}"
)
"""Opens the thinking in the prompt, as those of DeepSeek-R1 and QwQ do."""

TEMPLATES = {
    "chatml": CHATML,
    "thinking": THINKING,
    "stripping": STRIPPING,
    "alternating": ALTERNATING,
    "opened": OPENED,
}
CONTROL = ("<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|begin|>")
_WORDS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
_CORPUS = (
    "the numbers of the library and what was read in it so far ",
    "system user assistant tool call alpha line two ",
)


def make_tokenizer(folder: Path, template: str, *, context: int = 2500, plain: tuple[str, ...] = ()) -> Path:
    """Write a model folder; the control tokens of `plain` are added without being marked as special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=600, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator([text * 3 for text in _CORPUS], trainer)
    tokenizer.add_special_tokens([AddedToken(word, special=True) for word in CONTROL if word not in plain])
    tokenizer.add_tokens([AddedToken(word, special=False, normalized=False) for word in (*_WORDS, *plain)])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", chat_template=template)
    fast.save_pretrained(folder)
    LlamaConfig(vocab_size=len(fast), max_position_embeddings=context).save_pretrained(folder)
    return folder


def odd_ids(tokenizer: HuggingFaceTokenizer) -> Callable[[str, Random], list[int]]:
    """Return how to sample a text: cut anywhere, so that its ids are not those that it gives again."""

    def odd(text: str, random: Random) -> list[int]:
        ids: list[int] = []
        for line in text.splitlines(keepends=True):
            cut = random.randrange(len(line) + 1) if random.random() < 0.3 and "<" not in line else 0
            ids += [*tokenizer.encode(line[:cut]), *tokenizer.encode(line[cut:])]
        return ids

    return odd
