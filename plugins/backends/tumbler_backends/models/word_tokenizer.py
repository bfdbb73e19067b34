"""A byte-level tokenizer in which each word of some sample texts is one token; knows no model.

A word takes the space before it along, and numbers are cut into pairs of digits. The chat template puts a
space before what the model reads, so that a name alone on its line has the same token as one in a command:
that lets a small model copy it. What is not in the vocabulary is spelled in bytes, so that every text comes
back exactly.
"""

from collections import Counter
from collections.abc import Iterable
from itertools import islice

from tokenizers import AddedToken, Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

__all__ = ["END", "PAD", "make_word_tokenizer"]

PAD, END = "<|pad|>", "<|end|>"
_ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")

_PIECES = r"\.\p{L}+| ?[\p{L}_]+| ?\p{N}{1,2}|\n+| ?[^\s\p{L}\p{N}_]+|\s"
"""File extensions, words, digits, line ends, punctuation, other white space."""

_SPACE = "Ġ"
"""How the byte-level alphabet writes a space."""

_CHAT_TEMPLATE = (
    "{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{% if message['role'] == 'assistant' %}{{ message['content'] + '<|end|>' }}"
    "{% else %}{{ ' ' + message['content'] }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)


def make_word_tokenizer(texts: Iterable[str], *, vocabulary: int, sample: int, context: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of at most `vocabulary` tokens, the commonest words of the first `sample` texts among them."""
    pieces = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    words = Counter(piece for text in islice(texts, sample) for piece, _ in pieces.pre_tokenize_str(text))
    tokens = [
        PAD,
        END,
        *_ROLES,
        *sorted(pre_tokenizers.ByteLevel.alphabet()),
        *(f"{space}{number}" for number in range(100) for space in ("", _SPACE)),
    ]
    # A word may come back with a space before it or without, so both get a token.
    bare = Counter[str]()
    for word, count in words.items():
        bare[word.removeprefix(_SPACE)] += count
    commonest = [form for word in sorted(bare, key=lambda word: (-bare[word], word)) for form in (_SPACE + word, word)]
    ids = {token: index for index, token in enumerate(list(dict.fromkeys([*tokens, *commonest]))[:vocabulary])}
    # `ignore_merges` takes a piece that is in the vocabulary as it is, so that no merges are needed to reach it.
    tokenizer = Tokenizer(BPE(vocab=ids, merges=[], ignore_merges=True))
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.ByteLevel()
    controls = [AddedToken(token, special=True, normalized=False) for token in (PAD, END, *_ROLES)]
    tokenizer.add_special_tokens(controls)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        extra_special_tokens=list(_ROLES),
        chat_template=_CHAT_TEMPLATE,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
