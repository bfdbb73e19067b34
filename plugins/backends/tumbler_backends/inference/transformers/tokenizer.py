"""A model folder's tokenizer and chat template, as the core sees them."""

import hashlib
import json
import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tumbler.contracts.values import Message
from tumbler.errors import InferenceError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

__all__ = ["HuggingFaceTokenizer"]

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_REMEMBERED = 8192
"""Texts whose ids are kept, and conversations whose rendering is: turns of many episodes say the same."""
_LONGEST_REMEMBERED = 2048
"""Characters of one."""
_PROBE = "xyzzy"
"""A reply whose end can be found in a rendered conversation."""


class HuggingFaceTokenizer:
    """Text to token ids and back, and conversations through the folder's chat template."""

    def __init__(self, folder: Path) -> None:
        """Load the folder's tokenizer; raise `InferenceError` if it or its chat template is missing."""
        self._tokenizer = _load(folder)
        self._encoded: dict[str, tuple[int, ...]] = {}
        self._rendered: dict[tuple[tuple[Message, ...], bool], str] = {}
        # A template that tells the time says something else tomorrow.
        self._steady = "strftime_now" not in str(self._tokenizer.chat_template)
        self._context_length = _context_length(folder, self._tokenizer)
        self._fingerprint = _fingerprint(self._tokenizer)
        self._end_of_turn = self._find_end_of_turn(folder)
        self._unmarked = self._find_unmarked()
        self._control_tokens = (*_special_tokens(self._tokenizer), *self._unmarked)
        breaks = (f"(?<={re.escape(token[0])})(?={re.escape(token[1:])})" for token in self._unmarked)
        self._breaks = re.compile("|".join(breaks)) if self._unmarked else None

    @property
    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits of a SHA-256 over vocabulary and chat template."""
        return self._fingerprint

    @property
    def end_of_turn(self) -> int:
        """Return the id that the chat template puts after an assistant's message."""
        return self._end_of_turn

    @property
    def end_of_text(self) -> tuple[int, ...]:
        """Return the id that ends a text, if there is one."""
        end = self._tokenizer.eos_token_id
        return (end,) if isinstance(end, int) else ()

    @property
    def context_length(self) -> int:
        """Return the longest sequence that the model takes, in tokens."""
        return self._context_length

    def encode(self, text: str) -> list[int]:
        """Return the ids of the text, control tokens in it parsed, nothing added."""
        known = self._encoded.get(text)
        if known is None:
            known = tuple(self._tokenizer.encode(text, add_special_tokens=False))
            if len(text) <= _LONGEST_REMEMBERED:
                _remember(self._encoded, text, known)
        return list(known)

    @property
    def control_tokens(self) -> Sequence[str]:
        """Return how the tokens are spelt that the tokenizer calls special, or that the template frames turns with."""
        return self._control_tokens

    def encode_plain(self, text: str) -> list[int]:
        """Return the ids of the text, special tokens in it as the words that spell them."""
        pieces = [text] if self._breaks is None else self._breaks.split(text)
        encoded = (self._tokenizer.encode(each, add_special_tokens=False, split_special_tokens=True) for each in pieces)
        return list(chain.from_iterable(encoded))

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of the ids without control tokens."""
        text = self._tokenizer.decode(list(token_ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return str(text)

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        """Return the conversation as the chat template writes it."""
        asked = (tuple(messages), add_generation_prompt)
        known = self._rendered.get(asked) if self._steady else None
        if known is None:
            known = self._rendering(messages, add_generation_prompt=add_generation_prompt)
            if self._steady and len(known) <= _LONGEST_REMEMBERED:
                _remember(self._rendered, asked, known)
        return known

    def _rendering(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        conversation = [{"role": message.role, "content": message.content} for message in messages]
        rendered = self._tokenizer.apply_chat_template(
            conversation, tokenize=False, add_generation_prompt=add_generation_prompt
        )
        return str(rendered)

    def _find_unmarked(self) -> tuple[str, ...]:
        """Return the added tokens that frame turns although the tokenizer does not call them special."""
        asked, answered = Message(role="user", content="question"), Message(role="assistant", content="answer")
        try:
            frame = self.render([asked, answered, asked], add_generation_prompt=True)
        except Exception:  # noqa: BLE001  # a template is a program that raises what it likes
            frame = self.render([asked], add_generation_prompt=True)
        added = (str(token) for token in self._tokenizer.added_tokens_decoder.values() if not token.special)
        return tuple(token for token in added if len(token) > 1 and token in frame)

    def _find_end_of_turn(self, folder: Path) -> int:
        messages = [Message(role="user", content="hello"), Message(role="assistant", content=_PROBE)]
        rest = self.render(messages, add_generation_prompt=False).rpartition(_PROBE)[2]
        following = self.encode(rest)
        controls = {*self._tokenizer.all_special_ids, *self._tokenizer.added_tokens_decoder}
        if following and following[0] in controls:
            return following[0]
        if self.end_of_text:
            return self.end_of_text[0]
        raise InferenceError(
            f"nothing ends an assistant's turn in {folder}: its chat template puts no control token after the reply "
            "and its tokenizer has no end-of-text token. Set eos_token in tokenizer_config.json."
        )


def _remember(memory: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Keep a value; a full memory begins anew, which costs less than to know what was used last."""
    if len(memory) >= _REMEMBERED:
        memory.clear()
    memory[key] = value


def _load(folder: Path) -> "PreTrainedTokenizerBase":
    # Not before a folder is loaded: a process that is handed a tokenizer does without, and so without torch.
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise InferenceError(
            f"cannot load a tokenizer from {folder}: {error}\nexpected tokenizer.json and tokenizer_config.json there"
        ) from error
    if not tokenizer.chat_template:
        raise InferenceError(
            f"the tokenizer in {folder} has no chat template, so no conversation can be rendered. Use the model's "
            "instruction-tuned variant, or put the template into chat_template.jinja in that folder."
        )
    return tokenizer


def _context_length(folder: Path, tokenizer: "PreTrainedTokenizerBase") -> int:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(folder).get_text_config()
    positions = getattr(config, "max_position_embeddings", None)
    return int(positions if positions else tokenizer.model_max_length)


def _fingerprint(tokenizer: "PreTrainedTokenizerBase") -> str:
    vocabulary = sorted(tokenizer.get_vocab().items())
    identity = json.dumps([vocabulary, tokenizer.chat_template], ensure_ascii=True, sort_keys=True)
    return hashlib.sha256(identity.encode()).hexdigest()[:16]


def _special_tokens(tokenizer: "PreTrainedTokenizerBase") -> tuple[str, ...]:
    added = (str(token) for token in tokenizer.added_tokens_decoder.values() if token.special)
    return tuple(dict.fromkeys([*map(str, tokenizer.all_special_tokens), *added]))
