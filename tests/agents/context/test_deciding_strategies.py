"""`subagent` and `model-decides`: the policy says when something is to be left out."""

import pytest
from pydantic import ValidationError
from tests.agents.context.talking import SYSTEM, TASK, Summaries, Talk

from tumbler.contracts.values import ToolCall
from tumbler.errors import ContractError
from tumbler_agents.context.model_decides import ModelDecides, ModelDecidesSettings
from tumbler_agents.context.subagent import Subagent, SubagentSettings
from tumbler_agents.context.summary import SummarySettings, SummaryStrategy
from tumbler_agents.context.window import Window, WindowSettings


def subagent(**settings: object) -> Subagent:
    return Subagent(SubagentSettings.model_validate(settings))


def decides(**settings: object) -> ModelDecides:
    return ModelDecides(ModelDecidesSettings.model_validate(settings))


def forgetful() -> SummaryStrategy:
    return SummaryStrategy(SummarySettings(keep_last=1, instructions="Sum up."))


def folded(shown: list[str], number: int, task: str, result: str) -> bool:
    return f"Result of branch {number} ({task}):\n{result}" in shown


async def test_a_branch_is_folded_into_its_result_when_it_returns() -> None:
    talk = Talk(subagent(), context=4000)
    await talk.turns(2)
    before = await talk.prompt()
    answer = await talk.call("branch", task="find the port")
    assert answer.text.startswith("Branch 1 is open: find the port\n")
    opened = await talk.prompt()
    await talk.turns(6, start=10)
    assert (await talk.call("return_result", text="It is 4711.")).text == "Branch 1 is closed."
    shown = await talk.prompt()
    assert shown[: len(before) + 1] == opened[: len(before) + 1]
    assert shown[len(before) + 1 :] == ["Result of branch 1 (find the port):\nIt is 4711."]
    assert talk.checks == []


async def test_what_was_said_before_and_after_a_branch_stays() -> None:
    talk = Talk(subagent(), context=4000)
    await talk.call("branch", task="search")
    await talk.turns(4)
    talk.say("By the way: no tabs.")
    await talk.call("return_result", text="found")
    await talk.turns(2, start=20)
    shown = await talk.prompt()
    assert shown[:2] == [SYSTEM, TASK]
    assert "By the way: no tabs." in shown
    assert folded(shown, 1, "search", "found")
    assert "step 21" in shown
    assert "step 3" not in shown


async def test_branches_within_branches_are_bounded_and_go_with_the_outer_one() -> None:
    talk = Talk(subagent(depth=2), context=6000)
    await talk.call("branch", task="outer")
    await talk.turns(2)
    await talk.call("branch", task="inner")
    refusal = await talk.call("branch", task="too deep")
    assert refusal.errored
    assert "call return_result first" in refusal.text
    await talk.turns(8, start=10)
    await talk.call("return_result", text="inner result")
    shown = await talk.prompt()
    assert folded(shown, 2, "inner", "inner result")
    assert "step 1" in shown
    await talk.turns(8, start=30)
    await talk.call("return_result", text="outer result")
    shown = await talk.prompt()
    assert folded(shown, 1, "outer", "outer result")
    assert not any("inner" in content for content in shown)
    assert talk.checks == []


async def test_a_branch_that_is_never_left_loses_nothing() -> None:
    talk = Talk(subagent(), context=6000)
    await talk.call("branch", task="lost")
    prompts = await talk.turns(20)
    assert sum(content.startswith("step") for content in prompts[-1]) == 19


async def test_a_branch_that_is_never_left_does_not_hinder_a_summary() -> None:
    talk = Talk(subagent(), forgetful())
    await talk.call("branch", task="lost")
    assert len(await talk.turns(60)) == 60
    assert talk.checks == []


async def test_a_fold_that_is_not_worth_the_cache_waits_for_another() -> None:
    talk = Talk(subagent(), context=8000)
    await talk.turns(20)
    await talk.call("branch", task="a")
    await talk.call("return_result", text="A")
    await talk.prompt()
    await talk.turns(1, start=30)
    assert talk.checks == []
    assert "step 30" in await talk.prompt()
    await talk.call("branch", task="b")
    await talk.turns(8, start=40)
    await talk.call("return_result", text="B")
    shown = await talk.prompt()
    assert folded(shown, 1, "a", "A")
    assert folded(shown, 2, "b", "B")
    assert talk.checks == []


async def test_a_result_is_shown_again_when_a_compaction_has_taken_it() -> None:
    talk = Talk(forgetful(), subagent())
    await talk.call("branch", task="search")
    await talk.turns(4)
    await talk.call("return_result", text="the port is 4711")
    prompts = await talk.turns(60, start=10)
    assert len(talk.model.prompts) > 2
    assert all(any("the port is 4711" in content for content in prompt) for prompt in prompts)


async def test_a_branch_whose_opening_was_summed_up_is_folded_where_it_stands() -> None:
    talk = Talk(SummaryStrategy(SummarySettings(keep_last=1, instructions="Sum up.")), subagent(), context=3000)
    await talk.call("branch", task="search")
    await talk.turns(3)
    talk.log.request("user_request")
    assert not any("is open" in content for content in (await talk.prompt())[2:4])
    await talk.turns(6, start=10)
    await talk.call("return_result", text="found it")
    shown = await talk.prompt()
    assert folded(shown, 1, "search", "found it")
    assert "step 12" not in shown


async def test_a_closing_reply_that_makes_other_calls_too_stays_with_all_answers() -> None:
    talk = Talk(subagent(), context=4000)
    await talk.call("branch", task="search")
    await talk.turns(6)
    ids = talk.reply("look and return", 2)
    answer = await talk.log.call(ToolCall(name="return_result", arguments={"text": "R"}))
    talk.answer(ids[1], answer.text)
    assert "step 3" in await talk.prompt()
    talk.answer(ids[0], "what was looked at")
    shown = await talk.prompt()
    assert folded(shown, 1, "search", "R")
    assert "what was looked at" in shown
    assert "step 3" not in shown


async def test_other_answers_beside_the_opening_call_stay() -> None:
    talk = Talk(subagent(), context=4000)
    ids = talk.reply("look and branch", 2)
    talk.answer(ids[0], "seen")
    answer = await talk.log.call(ToolCall(name="branch", arguments={"task": "t"}))
    talk.answer(ids[1], answer.text)
    await talk.turns(6)
    await talk.call("return_result", text="R")
    shown = await talk.prompt()
    assert shown[2:] == ["look and branch", "seen", "Result of branch 1 (t):\nR"]


@pytest.mark.parametrize("names", [("branch", "branch"), ("branch", "return_result"), ("return_result", "branch")])
async def test_one_reply_opens_or_closes_one_branch(names: tuple[str, str]) -> None:
    talk = Talk(subagent(depth=5))
    await talk.call("branch", task="outer")
    await talk.turns(1)
    arguments = {"task": "again", "text": "result"}
    first, second = await talk.calls(*(ToolCall(name=name, arguments=arguments) for name in names))
    assert (first.errored, second.errored) == (False, True)
    await talk.prompt()


@pytest.mark.parametrize(
    ("tool", "arguments"),
    [("branch", {}), ("branch", {"task": " "}), ("branch", {"task": 7}), ("return_result", {}),
     ("return_result", {"text": "no branch is open"})],
)  # fmt: skip
async def test_a_malformed_call_of_branches_is_answered(tool: str, arguments: dict[str, object]) -> None:
    talk = Talk(subagent())
    answer = await talk.call(tool, **arguments)  # type: ignore[arg-type]  # malformed on purpose
    assert answer.errored
    assert answer.text.startswith("error: ")


async def test_a_result_that_is_too_long_is_cut_and_the_policy_is_told() -> None:
    talk = Talk(subagent(max_tokens=200), context=4000)
    await talk.call("branch", task="t")
    await talk.turns(8)
    answer = await talk.call("return_result", text="HEAD" + "x" * 900 + "TAIL")
    assert "had 908 tokens and was cut" in answer.text
    result = (await talk.prompt())[-1]
    assert "HEAD" in result
    assert result.endswith("TAIL")
    assert len(result) < 250


async def test_the_policys_request_lets_the_other_strategies_compact() -> None:
    talk = Talk(decides(minimum=0.2), forgetful(), model=Summaries())
    await talk.turns(6)
    answer = await talk.call("compact", reason="the search is over")
    assert answer.plan
    assert "SUMMARY" in "".join(await talk.prompt())


async def test_a_request_works_with_a_window_too() -> None:
    talk = Talk(decides(minimum=0.2), Window(WindowSettings(keep_first=0, keep_last=1)))
    await talk.turns(6)
    await talk.call("compact")
    assert "step 2" not in await talk.prompt()


async def test_a_request_below_the_minimum_is_refused_and_changes_nothing() -> None:
    talk = Talk(decides(minimum=0.5), forgetful())
    await talk.turns(2)
    answer = await talk.call("compact", reason="bored")
    assert answer.errored
    assert not answer.plan
    assert "below 50%" in answer.text
    await talk.prompt()
    assert talk.model.prompts == []


async def test_a_request_beside_an_open_call_waits_for_its_answer() -> None:
    talk = Talk(decides(minimum=0.1), forgetful())
    await talk.turns(8)
    ids = talk.reply("compact and look", 2)
    answer = await talk.log.call(ToolCall(name="compact", arguments={}))
    talk.answer(ids[0], answer.text)
    assert "compact and look" in await talk.prompt()
    talk.answer(ids[1], "late")
    assert "late" in await talk.prompt()


async def test_a_malformed_request_is_answered() -> None:
    assert (await Talk(decides()).call("compact", reason=["x"])).errored


async def test_tools_that_collide_are_told_of_and_can_be_renamed() -> None:
    with pytest.raises(ContractError, match="rename the tool"):
        Talk(decides(), decides())
    assert [tool.name for tool in Talk(decides(), decides(tool="shrink")).log.tools] == ["compact", "shrink"]
    with pytest.raises(ValidationError):
        subagent(return_tool="branch")


def test_the_rubric_is_the_tools_description() -> None:
    assert decides(rubric="Only on Mondays.").tools()[0].description == "Only on Mondays."


@pytest.mark.parametrize("compacts", [forgetful, lambda: Window(WindowSettings(keep_first=0, keep_last=1))])
async def test_an_open_branch_is_told_again_when_a_compaction_has_taken_its_opening(compacts) -> None:
    talk = Talk(compacts(), subagent())
    opened = (await talk.call("branch", task="find the port")).text
    prompts = await talk.turns(40)
    assert all(sum(opened in content for content in prompt) == 1 for prompt in prompts)
    await talk.call("return_result", text="It is 4711.")
    shown = await talk.prompt()
    assert any("Result of branch 1 (find the port):\nIt is 4711." in content for content in shown)
    assert not any(opened in content for content in shown)


async def test_branches_within_branches_are_all_told_again() -> None:
    talk = Talk(Window(WindowSettings(keep_first=0, keep_last=1)), subagent())
    outer = (await talk.call("branch", task="outer")).text
    inner = (await talk.call("branch", task="inner")).text
    for prompt in await talk.turns(40):
        assert any(outer in content for content in prompt)
        assert any(inner in content for content in prompt)


async def test_what_told_of_a_branch_outside_of_it_says_that_it_is_closed() -> None:
    talk = Talk(subagent(), context=4000)
    opened = (await talk.call("branch", task="t")).text
    talk.say(f"You told me:\n{opened}\nGo on.")
    await talk.turns(6)
    await talk.call("return_result", text="R")
    shown = await talk.prompt()
    assert folded(shown, 1, "t", "R")
    assert "You told me:\nBranch 1 is closed.\nGo on." in shown
