"""The tokenizer of tiny models: one token for each word, and every text comes back."""

from functools import cache

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import AutoTokenizer

from tumbler_backends.models.word_tokenizer import make_word_tokenizer

TEXT = "Start at cedar.txt and follow blue. Write the value to out.txt.\nblue: otter.txt\n$ expr 37 + 5\nvalue: 42\n"


@cache
def tokenizer():
    return make_word_tokenizer([TEXT], vocabulary=512, sample=8, context=128)


def encode(text):
    return tokenizer().encode(text, add_special_tokens=False)


def decode(ids):
    return tokenizer().decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


@given(st.text())
def test_every_text_without_control_tokens_comes_back_exactly(text):
    assume(not any(token in text for token in tokenizer().all_special_tokens))
    assert decode(encode(text)) == text


@given(st.text(alphabet=" .:,\n\t\"'{}_-/0129azé中\u0301", max_size=30))
def test_every_mix_of_spaces_marks_and_words_comes_back_exactly(text):
    assert decode(encode(text)) == text


@pytest.mark.parametrize("word", ["cedar", "otter", "blue", "value", "Start", "follow"])
@pytest.mark.parametrize("around", [" {}", "cat {}", "{} {}\n", "<|user|> {}", '" {}"', ": {}.txt"])
def test_a_word_behind_a_space_is_the_same_token_wherever_it_stands(word, around):
    (token,) = encode(f" {word}")
    assert token in encode(around.format(word, word))


@pytest.mark.parametrize("word", ["cedar", "otter", "blue", "value", "Start", "follow"])
@pytest.mark.parametrize("around", ["{}", "\n{} ", '"{}"', "({}: "])
def test_a_word_without_a_space_has_one_token_too(word, around):
    (token,) = encode(word)
    assert token in encode(around.format(word))


@pytest.mark.parametrize("number", range(100))
def test_a_number_below_a_hundred_is_one_token_wherever_it_stands(number):
    (bare,) = encode(str(number))
    (spaced,) = encode(f" {number}")
    assert encode(f"{number}.txt")[0] == bare
    assert encode(f"value: {number}")[-1] == spaced
    assert spaced in encode(f"expr {number} + 1")


def test_control_tokens_in_a_text_are_parsed_and_leave_no_text():
    ids = encode("<|user|>blue<|end|>")
    assert len(ids) == 3
    assert decode(ids) == "blue"


def test_words_are_not_cut_by_what_was_seen():
    assert len(encode("cedars")) == 6  # never seen: spelled in bytes
    assert [decode([token]) for token in encode("blue: cedar.txt\n")] == ["blue", ":", " cedar", ".txt", "\n"]


def test_the_commonest_words_are_kept_when_there_are_too_many():
    texts = [f"common word{chr(97 + index % 26)}{chr(97 + index // 26)}" for index in range(600)]
    small = make_word_tokenizer(texts, vocabulary=600, sample=600, context=64)
    assert len(small) == 600
    assert len(small.encode("common", add_special_tokens=False)) == 1


def test_a_conversation_takes_one_token_for_each_role_and_each_end_of_turn(tmp_path):
    tokenizer().save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    roles = ["system", "user", "assistant", "tool"]
    messages = [{"role": role, "content": "blue"} for role in roles]
    ids = loaded.apply_chat_template(messages, add_generation_prompt=True, return_dict=False)
    blue, said, end = encode(" blue")[0], encode("blue")[0], loaded.eos_token_id
    marks = {role: loaded.convert_tokens_to_ids(f"<|{role}|>") for role in roles}
    assert ids == [
        *(marks["system"], blue, marks["user"], blue, marks["assistant"], said, end, marks["tool"], blue),
        marks["assistant"],
    ]
    assert loaded.decode(ids, skip_special_tokens=True) == " blue blueblue blue"
