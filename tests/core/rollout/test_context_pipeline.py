"""The pipeline catches every plan that breaks a rule, and refuses what is not worth its cost."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from random import Random

import pytest

from tumbler.contracts.agent import Reply
from tumbler.contracts.context import (
    Append,
    Budget,
    Drop,
    LogEntry,
    Pin,
    Plan,
    Replace,
    Reset,
    State,
    StrategyAnswer,
    StrategyCaps,
    Summarise,
    Trigger,
    View,
)
from tumbler.contracts.values import Message, ToolCall, ToolSpec
from tumbler.errors import ContextOverflowError, ContextPlanError, ContractError, InferenceError
from tumbler.rollout.context import NamedStrategy, StrategyPipeline
from tumbler.testing.fakes import CharacterTokenizer
from tumbler.testing.samples import sample_task

Planner = Callable[[View, Budget, State, Trigger], Plan]
LONG = "x" * 100


class Planned:
    """A strategy whose plan is a function."""

    def __init__(self, plan: Planner, caps: StrategyCaps) -> None:
        self._plan, self.caps = plan, caps

    def start(self, task: object, rng: Random) -> State:
        return {"draw": rng.random()}

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        return self._plan(view, budget, state, why)


def pipeline(
    plan: Planner, *, context: int = 4000, caps: StrategyCaps | None = None, **more: object
) -> StrategyPipeline:
    strategy = Planned(plan, caps or StrategyCaps(rewrites="batched"))
    return StrategyPipeline(
        [NamedStrategy(name="tried", strategy=strategy)],
        CharacterTokenizer(context),
        room=100,
        task=sample_task(),
        seed=0,
        **more,  # type: ignore[arg-type]
    )


def begin(log: StrategyPipeline) -> None:
    log.append(Message(role="system", content="Be brief."), pinned=True)
    log.append(Message(role="user", content="Count."), pinned=True)


def turn(log: StrategyPipeline, text: str = LONG) -> None:
    """Add an exchange of one reply and its answer."""
    log.append(Message(role="assistant", content=text), sampled=True)
    log.append(Message(role="user", content=text))


async def talk(plan: Planner, turns: int = 4, **more: object) -> StrategyPipeline:
    """Return a pipeline whose prompts have held `turns` exchanges and which has planned once more."""
    enough = {"ready": False}

    def planned(view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        return plan(view, budget, state, why) if enough["ready"] else Plan()

    log = pipeline(planned, **more)  # type: ignore[arg-type]
    begin(log)
    for _ in range(turns):
        turn(log)
    await log.messages()
    enough["ready"] = True
    await log.messages()
    return log


async def caught(*edits: object) -> str:
    with pytest.raises(ContextPlanError) as problem:
        await talk(lambda *_: Plan(edits=list(edits)))  # type: ignore[arg-type]
    return problem.value.check


async def refused(*edits: object, **more: object) -> str:
    log = await talk(lambda *_: Plan(edits=list(edits)), **more)  # type: ignore[arg-type]
    assert [entry.id for entry in log.entries] == list(range(10)), "a refused plan changed the view"
    (refusal,) = log.refusals
    return refusal.check


async def test_an_exchange_that_is_cut_apart_is_caught() -> None:
    assert await caught(Drop(ids=(2,))) == "pairs"
    assert await caught(Drop(ids=(3,))) == "pairs"
    assert await caught(Summarise(ids=(3, 4), text="sum")) == "pairs"
    assert await caught(Reset(keep=(5,))) == "pairs"


async def test_parallel_calls_and_all_their_answers_go_together() -> None:
    log = pipeline(lambda view, *_: Plan(edits=[Drop(ids=(2, 3))]))
    begin(log)
    log.append(Message(role="assistant", content=LONG), sampled=True, calls=("a", "b"))
    log.append(Message(role="tool", content=LONG), answers="a")
    log.append(Message(role="tool", content=LONG), answers="b")
    with pytest.raises(ContextPlanError, match="go together"):
        await log.messages()


async def test_system_and_task_cannot_be_touched() -> None:
    for edit in (Drop(ids=(0,)), Replace(id=1, content="else", reason="none"), Summarise(ids=(1, 2, 3), text="sum")):
        assert await caught(edit) == "pinned"


async def test_what_a_strategy_pins_stays() -> None:
    assert await caught(Pin(ids=(2, 3)), Drop(ids=(2, 3))) == "pinned"


async def test_entries_that_are_not_in_view_cannot_be_edited() -> None:
    assert await caught(Drop(ids=(99,))) == "unknown"
    assert await caught(Drop(ids=(2, 3)), Drop(ids=(2, 3))) == "unknown"
    assert await caught(Summarise(ids=(), text="sum")) == "unknown"


@pytest.mark.parametrize("edit", [Drop(ids=(2, 3)), Reset(), Append(message=Message(role="user", content="hm"))])
async def test_unanswered_calls_stay_as_they_are(edit: object) -> None:
    log = pipeline(lambda *_: Plan(edits=[edit]))  # type: ignore[list-item]
    begin(log)
    log.append(Message(role="assistant", content=LONG), sampled=True, calls=("a", "b"))
    log.append(Message(role="tool", content=LONG), answers="b")
    with pytest.raises(ContextPlanError) as problem:
        await log.messages()
    assert problem.value.check == "unanswered"


async def test_words_that_no_model_said_cannot_pass_for_a_models() -> None:
    assert await caught(Summarise(ids=(2, 3), text="sum", call=0)) == "fabricated"


async def test_nothing_that_a_strategy_writes_is_marked_as_sampled() -> None:
    edits = [Replace(id=2, content="y", reason="short"), Summarise(ids=(4, 5), text="sum")]
    log = await talk(lambda *_: Plan(edits=edits))
    assert {entry.message.content: entry.sampled for entry in log.entries if entry.id not in range(6, 10)} == {
        "Be brief.": False,
        "Count.": False,
        "y": False,
        LONG: False,
        "sum": False,
    }


@pytest.mark.parametrize("role", ["assistant", "system", "tool"])
async def test_a_strategy_speaks_in_the_role_of_the_user_alone(role: str) -> None:
    assert await caught(Append(message=Message(role=role, content="hm"))) == "roles"  # type: ignore[arg-type]


async def test_a_conversation_cannot_begin_with_a_reply() -> None:
    log = pipeline(lambda *_: Plan(edits=[Drop(ids=(0,))]))
    for message in (Message(role="user", content=LONG), Message(role="assistant", content="yes")):
        log.append(message, sampled=message.role == "assistant")
    with pytest.raises(ContextPlanError) as problem:
        await log.messages()
    assert problem.value.check == "roles"


class Alternating(CharacterTokenizer):
    """A template that wants users and assistants to take turns."""

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        roles = [message.role for message in messages if message.role != "system"]
        if any(one == other for one, other in pairwise(roles)):
            raise ValueError("roles must alternate")
        return super().render(messages, add_generation_prompt=add_generation_prompt)


def over(tokenizer: CharacterTokenizer, *edits: object) -> StrategyPipeline:
    """Return a pipeline over another tokenizer, whose strategy makes these edits."""
    strategy = Planned(lambda *_: Plan(edits=list(edits)), StrategyCaps(rewrites="batched"))  # type: ignore[arg-type]
    return StrategyPipeline(
        [NamedStrategy(name="tried", strategy=strategy)], tokenizer, room=100, task=sample_task(), seed=0
    )


async def test_two_messages_of_the_user_in_a_row_are_legal_for_a_template_that_wants_turns() -> None:
    log = over(Alternating(4000), Append(message=Message(role="user", content="and")))
    begin(log)
    assert [message.content for message in await log.messages()][-2:] == ["Count.", "and"]


class Short(CharacterTokenizer):
    """A template that takes two messages."""

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool) -> str:
        if len(messages) > 2:
            raise ValueError("too many messages")
        return super().render(messages, add_generation_prompt=add_generation_prompt)


async def test_a_conversation_that_the_chat_template_refuses_is_caught() -> None:
    log = over(Short(4000), Replace(id=3, content="b", reason="short"))
    begin(log)
    turn(log, "a")
    with pytest.raises(ContextPlanError, match="too many messages") as problem:
        await log.messages()
    assert problem.value.check == "roles"


async def test_a_strategy_that_plans_otherwise_the_second_time_is_caught() -> None:
    fickle = Random(3)
    with pytest.raises(ContextPlanError) as problem:
        await talk(lambda *_: Plan(edits=[Replace(id=2, content=str(fickle.random()), reason="dice")]))
    assert problem.value.check == "deterministic"


async def test_a_strategy_that_counts_outside_of_its_state_is_caught() -> None:
    def plan(view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        state["asked"] = len(asked)
        asked.append(why)
        return Plan()

    asked: list[Trigger] = []
    with pytest.raises(ContextPlanError) as problem:
        await talk(plan)
    assert problem.value.check == "deterministic"


async def test_a_bounded_strategy_that_leaves_too_much_is_caught() -> None:
    log = pipeline(lambda *_: Plan(), context=800, caps=StrategyCaps(bounded=True, rewrites="batched"))
    begin(log)
    for _ in range(6):
        turn(log)
    with pytest.raises(ContextPlanError) as problem:
        await log.messages()
    assert problem.value.check == "bounded"


async def test_a_newest_exchange_that_cannot_fit_is_an_overflow_whatever_a_strategy_promises() -> None:
    log = pipeline(lambda *_: Plan(), context=800, caps=StrategyCaps(bounded=True, rewrites="batched"))
    begin(log)
    turn(log, "x" * 800)
    with pytest.raises(ContextOverflowError):
        await log.messages()


async def test_a_rewrite_that_lets_the_prompt_grow_is_refused() -> None:
    assert await refused(Replace(id=3, content="y" * 200, reason="more")) == "grows"
    assert await refused(Summarise(ids=(2, 3), text="y" * 500)) == "grows"


async def test_a_rewrite_that_frees_next_to_nothing_is_refused() -> None:
    assert await refused(Replace(id=3, content="y" * 90, reason="less")) == "progress"


async def test_a_rewrite_that_frees_less_than_the_run_asks_for_is_refused() -> None:
    assert await refused(Drop(ids=(2, 3)), clear_at_least=400) == "clear_at_least"


async def test_after_two_rewrites_in_a_row_the_third_is_refused() -> None:
    def plan(view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        exchange = view.exchanges()[0]
        return Plan(edits=[Drop(ids=exchange.ids)])

    log = await talk(plan, turns=6)
    assert [refusal.check for refusal in log.refusals] == []
    await log.messages()
    await log.messages()
    assert [refusal.check for refusal in log.refusals] == ["in-a-row"]
    turn(log)
    await log.messages()
    assert len(log.refusals) == 1, "after a prompt that went on as before, a rewrite is allowed again"


async def test_a_refused_plan_leaves_the_state_as_it_was() -> None:
    def plan(view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        state["done"] = True
        return Plan(edits=[Replace(id=3, content="y" * 90, reason="less")])

    log = await talk(plan)
    assert log.snapshot()["0:tried"] == {"draw": pytest.approx(log.snapshot()["0:tried"]["draw"])}  # type: ignore[call-overload,index]


async def test_entries_that_no_prompt_has_held_are_edited_for_free() -> None:
    def plan(view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        new = [
            entry for entry in view.entries if not entry.shown and len(entry.message.content) > 50 and not entry.sampled
        ]
        return Plan(edits=[Replace(id=entry.id, content="short", reason="long") for entry in new])

    log = pipeline(plan, caps=StrategyCaps())
    begin(log)
    seen: list[Message] = []
    for _ in range(5):
        turn(log)
        now = list(await log.messages())
        assert now[: len(seen)] == seen
        seen = now
    assert not log.refusals
    assert not log.rewritten


async def test_a_volatile_message_is_in_one_prompt_only() -> None:
    def plan(view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        if state.get("said"):
            return Plan()
        state["said"] = True
        return Plan(edits=[Append(message=Message(role="user", content="mind"), volatile=True)])

    log = pipeline(plan)
    begin(log)
    assert [message.content for message in await log.messages()][-1] == "mind"
    assert [message.content for message in await log.messages()][-1] == "Count."


async def test_a_threshold_and_an_overflow_are_told_apart() -> None:
    asked: list[Trigger] = []

    class Watching(Planned):
        def threshold(self, state: State) -> float:
            return 0.5

    strategy = Watching(lambda _v, _b, _s, why: asked.append(why) or Plan(), StrategyCaps(deterministic=False))
    named = NamedStrategy(name="tried", strategy=strategy)
    log = StrategyPipeline([named], CharacterTokenizer(900), room=100, task=sample_task(), seed=0)
    begin(log)
    await log.messages()
    turn(log)
    turn(log)
    await log.messages()
    log.request("user_request")
    await log.messages()
    turn(log)
    turn(log)
    with pytest.raises(ContextOverflowError):
        await log.messages()
    assert asked == ["turn_end", "threshold", "user_request", "overflow"]


async def test_the_true_length_of_prompts_counts_once_it_is_known() -> None:
    seen: list[int] = []
    strategy = Planned(lambda _v, budget, _s, _w: seen.append(budget.used) or Plan(), StrategyCaps(deterministic=False))
    named = NamedStrategy(name="tried", strategy=strategy)
    log = StrategyPipeline([named], CharacterTokenizer(4000), room=100, task=sample_task(), seed=0)
    begin(log)
    messages = await log.messages()
    exact = len(CharacterTokenizer().render(messages, add_generation_prompt=True))
    log.note_prompt(exact + 7)
    await log.messages()
    assert seen == [exact, exact + 7]


class Tooled(Planned):
    """A strategy with a tool that asks for a plan."""

    def tools(self) -> Sequence[ToolSpec]:
        return [ToolSpec(name="compact", description="Make room.")]

    async def call(self, call: ToolCall, view: View, state: State) -> StrategyAnswer:
        return StrategyAnswer(text=f"{len(view.entries)} entries", plan=True)


async def test_a_strategys_tool_can_ask_for_a_plan() -> None:
    asked: list[Trigger] = []
    tooled = Tooled(lambda _v, _b, _s, why: asked.append(why) or Plan(), StrategyCaps(deterministic=False))
    log = StrategyPipeline(
        [NamedStrategy(name="tried", strategy=tooled)], CharacterTokenizer(4000), room=100, task=sample_task(), seed=0
    )
    begin(log)
    answer = await log.call(ToolCall(name="compact"))
    assert answer.text == "2 entries"
    await log.messages()
    await log.messages()
    assert asked == ["tool_request", "turn_end"]


def test_two_strategies_cannot_offer_one_tool() -> None:
    tooled = Tooled(lambda *_: Plan(), StrategyCaps())
    strategies = [NamedStrategy(name=name, strategy=tooled) for name in ("one", "other")]
    with pytest.raises(ContractError, match="both offer a tool 'compact'"):
        StrategyPipeline(strategies, CharacterTokenizer(4000), room=100, task=sample_task(), seed=0)


def test_conversations_can_be_cut_where_all_calls_are_answered() -> None:
    log = pipeline(lambda *_: Plan())
    begin(log)
    turn(log)
    log.append(Message(role="assistant", content="two"), sampled=True, calls=("a", "b"))
    log.append(Message(role="tool", content="A"), answers="a")
    log.append(Message(role="tool", content="B"), answers="b")
    log.append(Message(role="user", content="go on"))
    log.append(Message(role="assistant", content="three"), sampled=True, calls=("c",))
    view = View(entries=log.entries)
    assert view.safe_cuts() == [2, 4, 7, 8]
    assert [(exchange.ids, exchange.open) for exchange in view.exchanges()] == [
        ((2, 3), False),
        ((4, 5, 6), False),
        ((8,), True),
    ]


def test_what_a_user_says_after_a_last_word_is_no_answer() -> None:
    log = pipeline(lambda *_: Plan())
    begin(log)
    log.append(Message(role="assistant", content="done"), sampled=True, calls=())
    log.append(Message(role="user", content="now the other one"))
    entries: Sequence[LogEntry] = log.entries
    assert entries[-1].exchange is None


class Asking(Planned):
    """A strategy that asks the model and puts its words, or nothing, in place of the first exchange."""

    def __init__(self, *, uses: bool, length: int = 1) -> None:
        super().__init__(lambda *_: Plan(), StrategyCaps(calls_model=True, rewrites="batched"))
        self._uses, self._length = uses, length

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        exchanges = view.exchanges()
        if not exchanges or not exchanges[0].entries[0].shown:
            return Plan()
        assert view.io is not None
        reply = await view.io.model([Message(role="user", content="Sum up.")], max_tokens=50)
        edit = Summarise(ids=exchanges[0].ids, text="so far: " + reply.text * self._length, call=reply.call)
        return Plan(edits=[edit] if self._uses else [])


async def ask(strategy: Asking, said: str = "all is well") -> tuple[StrategyPipeline, list[int]]:
    """Return the pipeline after a plan for which the model was asked, and the calls that came to nothing."""

    async def model(messages: Sequence[Message], *, agent_id: str, max_tokens: int | None, trainable: bool) -> Reply:
        assert (agent_id, max_tokens) == ("tried/summarizer", 50)
        return Reply(text=said, finish_reason="stop", chunk=7)

    withheld: list[int] = []
    named = NamedStrategy(name="tried", strategy=strategy)
    log = StrategyPipeline(
        [named],
        CharacterTokenizer(4000),
        room=100,
        task=sample_task(),
        seed=0,
        model=model,
        on_refused_call=withheld.append,
    )
    begin(log)
    turn(log)
    turn(log)
    await log.messages()
    await log.messages()
    return log, withheld


async def test_a_summary_that_is_used_stays_trainable() -> None:
    log, withheld = await ask(Asking(uses=True))
    assert (log.entries[2].message.content, log.entries[2].summary, withheld) == ("so far: all is well", True, [])


async def test_a_summary_that_is_refused_or_not_used_is_kept_out_of_training() -> None:
    assert (await ask(Asking(uses=True, length=90)))[1] == [7]
    assert (await ask(Asking(uses=False)))[1] == [7]


async def test_what_the_model_thinks_is_no_part_of_a_summary() -> None:
    log, _ = await ask(Asking(uses=True), "<think>\nhm\n</think>\n\nall is well")
    assert log.entries[2].message.content == "so far: all is well"


async def test_a_strategy_that_asks_where_no_model_is_gets_a_clear_error() -> None:
    log = StrategyPipeline(
        [NamedStrategy(name="tried", strategy=Asking(uses=True))],
        CharacterTokenizer(4000),
        room=100,
        task=sample_task(),
        seed=0,
    )
    begin(log)
    turn(log)
    await log.messages()
    with pytest.raises(InferenceError, match="'tried' asks a model"):
        await log.messages()


class Wordy(Asking):
    """Asks in two pieces and uses the second reply; `quotes` tells whether the first is part of the second prompt."""

    def __init__(self, *, quotes: bool) -> None:
        super().__init__(uses=True)
        self._quotes = quotes

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        exchanges = view.exchanges()
        if not exchanges or not exchanges[0].entries[0].shown or view.entries[2].summary:
            return Plan()
        assert view.io is not None
        first = await view.io.model([Message(role="user", content="Sum up.")])
        question = f"Sum up: {first.text}" if self._quotes else "Sum up."
        second = await view.io.model([Message(role="user", content=question)])
        return Plan(edits=[Summarise(ids=exchanges[0].ids, text=second.text, call=second.call)])


async def talked(*strategies: Planned, room: int = 100, context: int = 4000) -> tuple[StrategyPipeline, list[int]]:
    """Return a pipeline after a second prompt of two exchanges, and which calls' replies came to nothing."""
    chunks = iter(range(100))
    withheld: list[int] = []

    async def model(messages: Sequence[Message], *, agent_id: str, max_tokens: int | None, trainable: bool) -> Reply:
        chunk = next(chunks)
        return Reply(text=f"reply {chunk}", finish_reason="stop", chunk=chunk)

    log = StrategyPipeline(
        [NamedStrategy(name=f"tried-{index}", strategy=each) for index, each in enumerate(strategies)],
        CharacterTokenizer(context),
        room=room,
        task=sample_task(),
        seed=0,
        model=model,
        on_refused_call=withheld.append,
    )
    begin(log)
    turn(log)
    turn(log)
    await log.messages()
    await log.messages()
    return log, withheld


@pytest.mark.parametrize(("quotes", "expected"), [(True, []), (False, [0])])
async def test_a_reply_that_led_to_a_summary_is_trained_and_one_that_did_not_is_not(
    quotes: bool, expected: list[int]
) -> None:
    assert (await talked(Wordy(quotes=quotes)))[1] == expected


class Undoing(Planned):
    """Leaves out what another strategy has just summed up."""

    def __init__(self) -> None:
        super().__init__(lambda *_: Plan(), StrategyCaps(rewrites="batched"))

    async def plan(self, view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        return Plan(edits=[Drop(ids=(each.id,)) for each in view.entries if each.summary])


async def test_a_summary_that_no_prompt_ever_held_is_not_trained() -> None:
    assert (await talked(Wordy(quotes=True), Undoing()))[1] == [0, 1]


async def test_a_strategy_that_made_room_is_asked_again_where_another_took_it() -> None:
    def shed(view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        if why != "overflow":
            return Plan()
        return Plan(edits=[Drop(ids=view.exchanges()[0].ids)])

    def recite(view: View, budget: Budget, state: State, why: Trigger) -> Plan:
        newest = view.entries[-1]
        full = newest.shown or len(newest.message.content) > 200
        text = newest.message.content + "y" * 150
        return Plan(edits=[] if full else [Replace(id=newest.id, content=text, reason="recital")])

    caps = StrategyCaps(bounded=True, rewrites="batched")
    strategies = [Planned(shed, caps), Planned(recite, StrategyCaps())]
    log = StrategyPipeline(
        [NamedStrategy(name=f"tried-{index}", strategy=each) for index, each in enumerate(strategies)],
        CharacterTokenizer(950),
        room=100,
        task=sample_task(),
        seed=0,
    )
    begin(log)
    for _ in range(4):
        turn(log)
    shown = await log.messages()
    assert sum(len(message.content) for message in shown) <= 850
    assert [len(message.content) for message in shown][-2:] == [100, 250]


async def test_a_reply_counts_as_it_was_sampled_before_the_next_prompt_is_made() -> None:
    seen: list[int] = []
    strategy = Planned(lambda _v, budget, _s, _w: seen.append(budget.used) or Plan(), StrategyCaps(deterministic=False))
    named = NamedStrategy(name="tried", strategy=strategy)
    log = StrategyPipeline([named], CharacterTokenizer(4000), room=100, task=sample_task(), seed=0)
    begin(log)
    log.note_prompt(len(CharacterTokenizer().render(await log.messages(), add_generation_prompt=True)))
    log.note_reply("yes", [1, 2, 3, 4, 5, 6, 7, CharacterTokenizer.end_of_turn])
    log.append(Message(role="assistant", content="yes"), sampled=True)
    await log.messages()
    assert seen[1] - seen[0] == len("assistant\n") + 7 + 1


def test_an_answer_to_a_reply_that_told_of_no_calls_belongs_to_it_whatever_its_id() -> None:
    log = pipeline(lambda *_: Plan())
    begin(log)
    log.append(Message(role="assistant", content="look"), sampled=True)
    log.append(Message(role="tool", content="a room"), answers="call-0")
    assert [entry.exchange for entry in log.entries[2:]] == [1, 1]
