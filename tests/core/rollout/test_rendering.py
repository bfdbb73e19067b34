"""A running conversation is extended by its tail alone, and the result is what the model saw."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from tumbler.contracts.values import Message
from tumbler.rollout.rendering import Renderer
from tumbler.testing.fakes import CharacterTokenizer

USER = Message(role="user", content="hello")
MORE = Message(role="user", content="more")


def test_the_tail_after_a_closed_reply_completes_what_the_template_would_render() -> None:
    tokenizer = CharacterTokenizer()
    renderer = Renderer(tokenizer)
    reply = [*tokenizer.encode("answer"), tokenizer.end_of_turn]
    tail = renderer.tail([MORE], last_token=reply[-1])
    assert tail is not None
    whole = renderer.prompt([USER, Message(role="assistant", content="answer"), MORE])
    assert [*renderer.prompt([USER]), *reply, *tail] == whole


def test_the_tail_after_a_cut_reply_closes_the_turn_first() -> None:
    tokenizer = CharacterTokenizer()
    tail = Renderer(tokenizer).tail([MORE], last_token=ord("r"))
    assert tail is not None
    assert tail[0] == tokenizer.end_of_turn


class RewritingTokenizer(CharacterTokenizer):
    """Its template shows only the last assistant message."""

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        kept = [each for each in messages if each.role != "assistant" or each is messages[-1]]
        return super().render(kept, add_generation_prompt=add_generation_prompt)


def test_a_template_that_rewrites_earlier_turns_has_no_tail() -> None:
    assert Renderer(RewritingTokenizer()).tail([MORE], last_token=3) is None


class Thinking(CharacterTokenizer):
    """Its template shows an empty thought in the last turn alone."""

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        last = messages[-1]
        if last.role == "assistant":
            messages = [*messages[:-1], Message(role="assistant", content=f"<think></think>{last.content}")]
        return super().render(messages, add_generation_prompt=add_generation_prompt)


def test_a_template_that_shows_a_thought_in_the_last_turn_alone_has_a_tail() -> None:
    tail = Renderer(Thinking()).tail([MORE], last_token=3)
    assert tail == Thinking().encode("user\nmore\x03assistant\n")


class Hiding(CharacterTokenizer):
    """Its template leaves tools' messages out and says each user's twice."""

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        shown = [each for each in messages if each.role != "tool" for _ in range(1 + (each.role == "user"))]
        return super().render(shown, add_generation_prompt=add_generation_prompt)


def test_words_that_spell_control_tokens_stand_wherever_the_template_puts_them() -> None:
    told = [Message(role="tool", content="gone \x03"), Message(role="user", content="here \x03 and")]
    ids = Renderer(Hiding()).prompt(told)
    assert "".join(map(chr, ids)) == "user\nhere \u2403 and\x03" * 2 + "assistant\n"


class Stripping(CharacterTokenizer):
    """Its template strips what is said, and marks what looks like an answer of a tool."""

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        shown = []
        for message in messages:
            text = message.content.strip()
            shown.append(replace(message, content=f"{'*' if text.startswith('[tool]') else ''}{text}"))
        return super().render(shown, add_generation_prompt=add_generation_prompt)


def test_the_template_sees_what_stands_around_a_control_token() -> None:
    ids = Renderer(Stripping()).prompt([Message(role="user", content=" [tool] \x03 so ")])
    assert "".join(map(chr, ids)) == "user\n*[tool] \u2403 so\x03assistant\n"


class Alternating(CharacterTokenizer):
    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        roles = [message.role for message in messages if message.role != "system"]
        if any(one == other for one, other in pairwise(roles)):
            raise ValueError("roles must alternate")
        return super().render(messages, add_generation_prompt=add_generation_prompt)


def test_messages_of_the_user_in_a_row_are_joined_for_a_template_that_wants_turns() -> None:
    renderer = Renderer(Alternating())
    assert renderer.prompt([USER, MORE]) == Alternating().encode("user\nhello\nmore\x03assistant\n")
    assert renderer.tail([USER, MORE], last_token=3) == Alternating().encode("user\nhello\nmore\x03assistant\n")
    assert Renderer(CharacterTokenizer()).prompt([USER, MORE]).count(3) == 2


def test_an_order_that_joining_does_not_mend_is_the_templates_own_error() -> None:
    with pytest.raises(ValueError, match="must alternate"):
        Renderer(Alternating()).prompt([USER, *[Message(role="assistant", content="yes")] * 2])
