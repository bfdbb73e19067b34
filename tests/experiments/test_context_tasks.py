"""The tasks of the context benchmark, and the scripted policy that sees nothing but prompts."""

import asyncio

import pytest
from experiments.context.arms import ARMS, CEILING, Arm
from experiments.context.cuts import cut_everywhere
from experiments.context.episodes import play
from experiments.context.families import FAMILIES, build
from experiments.context.grammar import NOW, Fact, facts_in, request_in
from experiments.context.policy import act
from experiments.context.summarising import Summariser
from experiments.context.words import WordTokenizer
from experiments.context.world import World, task_of

from tumbler.contracts.values import Message, ToolCall
from tumbler.dialects import dialect


def arm(name: str) -> Arm:
    return next(each for each in ARMS if each.name == name)


def prompt(*shown: str) -> list[Message]:
    system = dialect("hermes").system("You are an agent.", [])
    return [Message(role="system", content=system), *(Message(role="user", content=text) for text in shown)]


@pytest.mark.parametrize("family", FAMILIES)
async def test_a_policy_that_sees_everything_solves_each_family(family: str) -> None:
    measured = await play(CEILING, family, 3)
    assert measured.success, measured.ending
    assert measured.violations == 0


@pytest.mark.parametrize("family", FAMILIES)
async def test_each_family_can_be_solved_in_the_small_window(family: str) -> None:
    measured = await play(arm("oracle keep"), family, 3)
    assert measured.success, measured.ending
    assert measured.peak <= arm("oracle keep").window


async def test_only_what_can_be_read_again_is_solved_without_memory() -> None:
    solved = [family for family in FAMILIES if (await play(arm("blind"), family, 3)).success]
    assert solved == ["re-readable fact"]


async def test_a_conversation_without_a_strategy_does_not_fit_the_small_window() -> None:
    endings = {family: (await play(arm("none"), family, 3)).ending for family in FAMILIES}
    assert set(endings.values()) == {"context_overflow"}


def test_equal_seeds_give_equal_tasks_and_others_do_not() -> None:
    for family in FAMILIES:
        assert build(family, 5) == build(family, 5)
        assert build(family, 5) != build(family, 6)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_a_task_needs_is_told_before_its_last_request(family: str) -> None:
    script = build(family, 1)
    last = max(index for index, step in enumerate(script.steps) if step.scored)
    told = ["\n".join((step.text, step.user, *step.brings)) for step in script.steps[: last + 1]]
    for sentence in script.needed:
        assert any(sentence in text for text in (*told, *script.cards.values())), sentence


async def test_a_wrong_report_is_a_mistake_and_the_task_goes_on() -> None:
    world = World("shown-once fact")
    await world.reset(task_of("shown-once fact", 0), seed=0, sandbox=None)
    for _ in range(len(build("shown-once fact", 0).steps) - 1):
        await world.step(ToolCall(name="next"))
    result = await world.step(ToolCall(name="report", arguments={"value": "1"}))
    assert result.terminated
    assert not (await world.verify()).success


async def test_a_call_that_answers_no_request_changes_nothing() -> None:
    world = World("exactly once")
    first = await world.reset(task_of("exactly once", 0), seed=0, sandbox=None)
    refused = await world.step(ToolCall(name="ship", arguments={"subject": "parcel-1"}))
    assert refused.errored
    assert (await world.step(ToolCall(name="status"))).observation == first.text


def test_the_policy_reports_a_fact_only_where_the_prompt_shows_it() -> None:
    asked = f"{NOW}report the code of amber-7."
    assert '"value": "4721"' in act(prompt("The code of amber-7 is 4721.", asked))
    assert '"value": "unknown"' in act(prompt("Something else.", asked))


def test_the_policy_takes_the_fact_that_was_told_last() -> None:
    reply = act(prompt("The code of amber-7 is 11.", f"The code of amber-7 is 22.\n{NOW}report the code of amber-7."))
    assert '"value": "22"' in reply


def test_what_was_fetched_from_earlier_does_not_overrule_what_is_in_view() -> None:
    fetched = "[Earlier passages that may help and are no longer shown above:]\nThe code of amber-7 is 11."
    newest = f"{NOW}report the code of amber-7.\n\n{fetched}"
    assert '"value": "22"' in act(prompt("The code of amber-7 is 22.", newest))
    assert '"value": "11"' in act(prompt("Nothing.", newest))


def test_a_prompt_without_a_request_is_answered_with_a_question_for_it() -> None:
    assert '"name": "status"' in act(prompt("The steps so far are left out."))


def test_the_summariser_keeps_the_users_words_and_the_facts_told_last() -> None:
    def count(text: str) -> int:
        return len(WordTokenizer(9).encode(text))

    entries = "".join(f"=== user ===\n<tool_response>\nThe code of a-{n} is {n}.\n</tool_response>\n" for n in range(9))
    user = "=== user ===\nA rule. The closing word of reports is zeta.\n"
    asked = (
        f"Sum up.\n\n{user}{entries}\n=== end of the conversation ===\nWrite the summary now, in at most 200 tokens."
    )
    facts = list(facts_in(Summariser(facts=2, count=count).write(prompt(asked)[1:])))
    assert facts == [Fact("closing word", "reports", "zeta"), Fact("code", "a-7", "7"), Fact("code", "a-8", "8")]


def test_words_come_back_as_they_were() -> None:
    tokenizer = WordTokenizer(100)
    messages = [Message(role="system", content="Be  brief."), Message(role="user", content='{"a": [1234]}\n</x>é')]
    assert tokenizer.read(tokenizer.encode(tokenizer.render(messages, add_generation_prompt=True))) == messages


def test_a_request_is_the_last_line_of_its_kind() -> None:
    assert request_in(f"{NOW}go on.\nThen\n{NOW}save section-1.") == "save section-1"
    assert request_in("go on.") is None


def test_a_cut_loses_a_task_where_it_lies_between_telling_and_asking() -> None:
    cuts = asyncio.run(cut_everywhere("last write wins", 0))
    assert {cut.stage for cut in cuts} == {"before", "between"}
    assert all(cut.lost == (cut.stage == "between") for cut in cuts)
    assert not any(cut.broken for cut in cuts)
