"""A running conversation is extended by its tail alone, and the result is what the model saw."""

from collections.abc import Sequence

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
