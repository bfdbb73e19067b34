"""Tokenizer and chat template of a model folder."""

import json
import pickle
import subprocess
import sys

import pytest

from tumbler.contracts.inference import TextTokenizer
from tumbler.contracts.values import Message
from tumbler.errors import InferenceError
from tumbler_backends.inference.transformers.tokenizer import HuggingFaceTokenizer

TALK = [Message(role="user", content="hello"), Message(role="assistant", content="a few words")]


def set_template(folder, template):
    (folder / "chat_template.jinja").write_text(template)


def test_it_keeps_the_contract(folder):
    tokenizer = HuggingFaceTokenizer(folder)
    assert isinstance(tokenizer, TextTokenizer)
    assert tokenizer.context_length == 256
    assert tokenizer.decode(tokenizer.encode("<|user|>some wörds<|end|>")) == "some wörds"


def test_a_conversation_is_rendered_by_the_folders_own_template(folder):
    set_template(folder, "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}")
    rendered = HuggingFaceTokenizer(folder).render(TALK, add_generation_prompt=True)
    assert rendered == "[user] hello[assistant] a few words"


def test_the_end_of_turn_is_what_the_template_puts_after_a_reply(folder):
    template = "{% for m in messages %}<|user|>{{ m.content }}<|tool|>\n{% endfor %}"
    set_template(folder, template)
    tokenizer = HuggingFaceTokenizer(folder)
    assert [tokenizer.end_of_turn] == tokenizer.encode("<|tool|>")
    assert list(tokenizer.end_of_text) == tokenizer.encode("<|end|>")


def test_without_a_control_token_after_the_reply_the_end_of_text_ends_the_turn(folder):
    set_template(folder, "{% for m in messages %}{{ m.content }}\n{% endfor %}")
    tokenizer = HuggingFaceTokenizer(folder)
    assert [tokenizer.end_of_turn] == tokenizer.encode("<|end|>")


def test_nothing_that_ends_a_turn_is_an_error_with_its_remedy(folder):
    set_template(folder, "{% for m in messages %}{{ m.content }}\n{% endfor %}")
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "eos_token": None}))
    with pytest.raises(InferenceError, match="Set eos_token"):
        HuggingFaceTokenizer(folder)


def test_a_missing_chat_template_is_an_error_with_its_remedy(folder):
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(InferenceError, match=r"put the template into chat_template\.jinja"):
        HuggingFaceTokenizer(folder)


def test_the_fingerprint_depends_on_vocabulary_and_template_alone(folder, tmp_path, write_model):
    before = HuggingFaceTokenizer(folder).fingerprint
    assert HuggingFaceTokenizer(write_model(tmp_path / "other", "gpt2", seed=3)).fingerprint == before
    set_template(folder, (folder / "chat_template.jinja").read_text() + " ")
    assert HuggingFaceTokenizer(folder).fingerprint != before
    assert len(before) == 16


def test_tokens_that_frame_turns_are_words_in_a_message_whether_or_not_the_tokenizer_calls_them_special(folder):
    path = folder / "tokenizer.json"
    described = json.loads(path.read_text())
    for token in described["added_tokens"]:
        if token["content"] == "<|user|>":
            token["special"] = False
    path.write_text(json.dumps(described))
    tokenizer = HuggingFaceTokenizer(folder)
    (framing,) = tokenizer.encode("<|user|>")
    assert {"<|user|>", "<|end|>"} <= set(tokenizer.control_tokens)
    for text in ("<|user|>", "a <|user|><|user|> b", "<|<|user|>user|>", "<|end|><|user|>"):
        ids = tokenizer.encode_plain(text)
        assert framing not in ids
        assert not set(tokenizer.encode("<|end|>")).intersection(ids)
        assert tokenizer.decode(ids).replace(" ", "") == text.replace(" ", "")


def test_what_it_remembers_is_nobody_elses_to_change(folder):
    tokenizer = HuggingFaceTokenizer(folder)
    expected = tokenizer.encode("some words")
    tokenizer.encode("some words").clear()
    assert tokenizer.encode("some words") == expected


def test_a_template_that_tells_the_time_is_asked_each_time(folder):
    set_template(folder, "{% for m in messages %}{{ m.content }}<|end|>{% endfor %}{{ strftime_now('%f') }}")
    tokenizer = HuggingFaceTokenizer(folder)
    assert len({tokenizer.render(TALK, add_generation_prompt=False) for _ in range(50)}) > 1


def test_a_process_that_is_handed_one_imports_no_torch(folder, tmp_path):
    packed = tmp_path / "tokenizer.pickle"
    packed.write_bytes(pickle.dumps(HuggingFaceTokenizer(folder)))
    program = (
        "import pathlib, pickle, sys; tokenizer = pickle.loads(pathlib.Path(sys.argv[1]).read_bytes()); "
        "print(tokenizer.encode('some words'), 'torch' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", program, packed], capture_output=True, text=True, check=True).stdout
    assert said.strip() == f"{HuggingFaceTokenizer(folder).encode('some words')} False"
