"""Replies by rules."""

import pytest

from tumbler.contracts.inference import GenerateRequest, Sampling
from tumbler.errors import ContextOverflowError, InferenceError
from tumbler.testing import InferenceSuite
from tumbler_backends.inference.scripted.script import ScriptedInference
from tumbler_backends.inference.scripted.settings import ScriptedSettings


def script(*rules, otherwise=""):
    return ScriptedInference(
        ScriptedSettings(rules=[{"when": when, "reply": reply} for when, reply in rules], otherwise=otherwise)
    )


@pytest.fixture
def model_folder(write_model, tmp_path):
    return write_model(tmp_path / "model")


@pytest.fixture
async def say(model_folder):
    """Lets a script answer a text."""

    async def answer(backend, text, max_tokens=32):
        await backend.start(model_folder)
        ids = tuple(backend.tokenizer.encode(text))
        request = GenerateRequest(token_ids=ids, sampling=Sampling(max_tokens=max_tokens), seed=0)
        reply = await backend.generate(request)
        return reply, backend.tokenizer.decode(reply.token_ids)

    return answer


class TestContract(InferenceSuite):
    @pytest.fixture
    def make_backend(self):
        return lambda: script(("word", "some words of text, more of them than anybody asked for"))

    @pytest.fixture
    def model_folder(self, write_model, tmp_path):
        return write_model(tmp_path / "model")


async def test_the_rule_whose_match_ends_last_speaks(say):
    rules = [("a few", "early"), ("words", "late")]
    assert (await say(script(*rules), "a few words"))[1] == "late"
    assert (await say(script(*rules), "words, a few"))[1] == "early"


async def test_of_rules_that_match_alike_the_first_speaks_and_groups_are_filled_in(say):
    backend = script((r"open (\w+)$", r"cat \1"), (r"\w+$", "no"))
    reply, text = await say(backend, "first open this, then open that")
    assert text == "cat that"
    assert reply.finish_reason == "stop" and reply.token_ids[-1] == backend.tokenizer.end_of_turn
    assert set(reply.logprobs) == {0.0}


async def test_a_reply_is_cut_where_the_request_ends_it(say):
    reply, _ = await say(script(otherwise="a long reply of many words"), "text", max_tokens=2)
    assert (len(reply.token_ids), reply.finish_reason) == (2, "length")


async def test_what_no_rule_matches_is_shown(say):
    with pytest.raises(InferenceError, match=r"no rule .* 'a strange text'; add one"):
        await say(script(("never", "said")), "a strange text")


async def test_a_prompt_that_fills_the_context_is_refused(say):
    with pytest.raises(ContextOverflowError, match="no room"):
        await say(script(otherwise="yes"), "text " * 300)


def test_a_pattern_that_is_none_is_refused():
    with pytest.raises(ValueError, match="no regular expression"):
        script(("(", "never"))
