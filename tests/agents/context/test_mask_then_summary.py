"""`mask-then-summary`: the model is asked only where masking does not suffice."""

import pytest
from tests.agents.context.talking import Summaries, Talk

from tumbler.errors import InferenceError
from tumbler_agents.context.mask_observations import MaskObservations, MaskObservationsSettings
from tumbler_agents.context.mask_then_summary import MaskThenSummary, MaskThenSummarySettings
from tumbler_agents.context.summary import SummarySettings, SummaryStrategy


def strategy(**settings: object) -> MaskThenSummary:
    return MaskThenSummary(
        MaskThenSummarySettings.model_validate(
            {"instructions": "Sum up.", "keep_outputs": 2, "keep_last": 2, **settings}
        )
    )


async def test_long_outputs_are_masked_without_a_call_of_the_model() -> None:
    talk = Talk(strategy())
    prompts = await talk.turns(8, size=250)
    assert talk.model.prompts == []
    assert any("old output" in content for content in prompts[-1])
    assert "step 0" in prompts[-1]


async def test_a_summary_is_made_once_there_is_too_little_to_mask() -> None:
    talk = Talk(strategy())
    prompts = await talk.turns(60, size=250)
    assert len(prompts) == 60
    assert talk.checks == []
    assert 0 < len(talk.model.prompts) < 16


async def test_it_calls_the_model_less_often_than_a_summary_alone() -> None:
    alone, masked = Talk(SummaryStrategy(SummarySettings(instructions="Sum up.", keep_last=2))), Talk(strategy())
    for talk in (alone, masked):
        await talk.turns(60, size=250)
    assert len(masked.model.prompts) < len(alone.model.prompts)


async def test_replies_that_cannot_be_masked_are_summed_up_with_the_whole_outputs() -> None:
    talk = Talk(strategy(), model=Summaries())
    for number in range(8):
        await talk.prompt()
        talk.turn("thinking " * 25 + str(number), f"short output {number}")
    assert "short output 0" in talk.model.prompts[0]


async def test_outputs_of_excluded_tools_stay() -> None:
    talk = Talk(strategy(exclude=["keep"]), context=3000)
    for number in range(8):
        await talk.prompt()
        tool = "keep" if number == 0 else "look"
        call = f'<tool_call>\n{{"name": "{tool}", "arguments": {{}}}}\n</tool_call>'
        talk.turn(call, f"output {number} " + "x" * 250)
    assert any(content.startswith("output 0 ") for content in await talk.prompt())
    assert any("old output of look" in content for content in await talk.prompt())


async def test_a_summary_is_made_of_what_was_masked_and_not_of_its_placeholders() -> None:
    talk = Talk(strategy())
    await talk.turns(60, size=250)
    read = "".join(talk.model.prompts)
    assert all(f"output {number} xxx" in read for number in range(30))
    assert "[old output" not in read


async def test_a_summary_behind_a_mask_of_its_own_is_made_of_what_was_masked() -> None:
    masking = MaskObservations(MaskObservationsSettings(keep=2, poll=1))
    talk = Talk(masking, SummaryStrategy(SummarySettings(instructions="Sum up.", keep_last=2)))
    for number in range(30):
        await talk.prompt()
        talk.turn("thinking " * 20, f"output {number} " + "x" * 250)
    read = "".join(talk.model.prompts)
    assert "output 0 xxx" in read
    assert "[old output" not in read


async def test_an_output_that_the_agent_wrote_like_a_placeholder_is_read_as_it_is() -> None:
    talk = Talk(strategy())
    await talk.prompt()
    talk.turn("look", "[old output left out: 9 tokens]")
    await talk.turns(60, size=250)
    assert "[old output left out: 9 tokens]" in "".join(talk.model.prompts)


async def test_a_failure_of_the_infrastructure_is_raised() -> None:
    def fail(_prompt: str) -> str:
        raise InferenceError("the engine is gone")

    with pytest.raises(InferenceError):
        await Talk(strategy(), model=Summaries(say=fail)).turns(60, size=250)
