"""What a person sees: events as lines, nothing that steers the terminal, and words for every end."""

import io
from typing import get_args

import pytest
from rich.console import Console

from tumbler.cli.agents.screen import Screen
from tumbler.cli.agents.wording import cleaned, ending
from tumbler.contracts.agent import EndReason
from tumbler.contracts.conversation import (
    ApprovalNeeded,
    CallEnded,
    CallStarted,
    Compacted,
    Done,
    HookRan,
    Notice,
    Said,
    Spoken,
    TextPiece,
    TokensUsed,
)

FINISHED = Done(reason="finished", text="")


class World:
    def __init__(self, *, terminal=False):
        self.file = io.StringIO()
        console = Console(file=self.file, force_terminal=terminal, width=60, highlight=False, no_color=True)
        self.screen = Screen(console, window=1000, window_source="from --context-length")

    def show(self, *events) -> str:
        for event in events:
            self.screen.show(event)
        return self.file.getvalue()


def started(name="shell", agent="main", call="1", **arguments):
    return CallStarted(agent_id=agent, call_id=call, name=name, arguments=arguments)


def ended(text, name="shell", agent="main", call="1", errored=False):
    return CallEnded(agent_id=agent, call_id=call, name=name, text=text, errored=errored)


def test_text_is_shown_as_it_comes_and_once():
    world = World()
    pieces = [TextPiece(agent_id="main", text=text) for text in ("Good ", "morning.")]
    assert world.show(*pieces) == "Good morning."
    assert world.show(Said(agent_id="main", text="Good morning."), FINISHED) == "Good morning.\n"


def test_text_that_came_at_once_is_shown_too():
    assert World().show(Said(agent_id="main", text="Good morning.")) == "Good morning.\n"


def test_a_call_and_its_result_are_short():
    shown = World().show(started(command="seq 9"), ended("\n".join("123456789")))
    assert shown.splitlines() == ["● shell seq 9", "    1", "    2", "    3", "    4", "    … 5 more lines"]


def test_a_call_begins_a_line_of_its_own():
    shown = World().show(TextPiece(agent_id="main", text="I look."), started(command="ls"))
    assert shown == "I look.\n● shell ls\n"


def test_an_edit_shows_what_it_changed():
    shown = World().show(started("edit", path="a", old="x", new="y"), ended("Replaced.", "edit"))
    assert "    -x\n    +y\n" in shown


def test_an_edit_that_failed_shows_no_change():
    shown = World().show(started("edit", path="a", old="x", new="y"), ended("error: no", "edit", errored=True))
    assert "-x" not in shown and "error: no" in shown


def test_what_was_shown_for_approval_is_not_shown_again():
    world = World()
    call = started("edit", path="a", old="x", new="y")
    world.show(call)
    world.screen.request(ApprovalNeeded(id=1, agent_id="main", name="edit", arguments=call.arguments), "x\nz\n")
    shown = world.show(ended("Replaced.", "edit"))
    assert shown.count("+y") == 1 and " z" in shown


def test_a_sub_agents_calls_are_indented_and_its_words_are_its_own():
    world = World()
    shown = world.show(
        TextPiece(agent_id="main/general-1", text="hidden"), started(agent="main/general-1", command="ls")
    )
    assert shown == "  ● shell ls\n"


def test_the_use_of_the_window_is_said_with_its_source_once_for_each_message():
    world = World()
    used = TokensUsed(agent_id="main", prompt=250)
    assert world.show(used, FINISHED) == "250 of 1,000 tokens (25 %; window from --context-length)\n"
    assert world.show(Notice(text="A notice."), FINISHED).endswith("A notice.\n")


def test_an_estimate_is_called_one():
    used = TokensUsed(agent_id="main", prompt=250, estimated=True)
    assert World().show(used, FINISHED).startswith("about 250 of")


def test_a_compaction_and_a_hook_that_says_no_are_shown():
    shown = World().show(
        Compacted(agent_id="main", tokens_before=9000, tokens_after=100),
        HookRan(event="stop", name="check", outcome="passed"),
        HookRan(event="before_tool", name="guard", outcome="blocked", detail="not there"),
    )
    assert shown.splitlines() == ["Compacted: 9,000 → 100 tokens", "hook guard (before_tool) blocked: not there"]


def test_an_earlier_conversation_is_recalled_from_its_end():
    world = World()
    world.screen.recall([Spoken(who="person", text=f"{number}") for number in range(9)])
    assert world.file.getvalue().splitlines() == ["> 5", "> 6", "> 7", "> 8", ""]


@pytest.mark.parametrize("text", ["\x1b[2Jgone", "\x1b]0;title\x07", "a\rb", "\x9b31m", "\u202eright"])
def test_nothing_that_is_shown_steers_the_terminal(text):
    shown = World(terminal=True).show(
        Said(agent_id="main", text=text), started(command=text), ended(text), TextPiece(agent_id="main", text=text)
    )
    for steering in ("\x1b[2J", "\x1b]0", "\r", "\x9b", "\u202e", "\x07"):
        assert steering not in shown


def test_rich_reads_no_markup_in_what_is_said():
    assert World().show(Said(agent_id="main", text="[red]x[/red] [/]")) == "[red]x[/red] [/]\n"


def test_line_ends_of_other_systems_are_line_ends():
    assert cleaned("a\r\nb\tc") == "a\nb\tc"


def test_waiting_is_shown_on_terminals_alone_and_wiped_away():
    world = World()
    world.screen._quiet_since -= 10
    world.screen.tick()
    assert world.file.getvalue() == ""
    world = World(terminal=True)
    world.screen._quiet_since -= 10
    world.screen.tick()
    assert "Ctrl-C interrupts" in world.file.getvalue()
    world.show(Said(agent_id="main", text="Here."))
    assert world.file.getvalue().endswith("\r\x1b[KHere.\n")


def test_waiting_stays_on_its_line_and_does_not_count_the_persons_own_time():
    world = World(terminal=True)
    world.screen._quiet_since -= 10
    for _ in range(3):
        world.screen.tick()
    assert world.file.getvalue().count("\r\x1b[K") == 2, "each wipes the one before away"
    long_ago = world.screen._quiet_since
    world.screen.resume()
    assert world.screen._quiet_since >= long_ago + 10


@pytest.mark.parametrize("reason", [*get_args(EndReason), "interrupted", "failed"])
def test_every_end_but_the_good_one_is_explained(reason):
    assert bool(ending(Done(reason=reason, text="why"))) == (reason != "finished")


def requested(before=None, agent="main", tool="shell", **arguments) -> str:
    world = World()
    world.screen.request(ApprovalNeeded(id=1, agent_id=agent, name=tool, arguments=arguments), before)
    return world.file.getvalue()


def test_no_end_of_a_line_hides_from_who_approves_it():
    assert "; rm -r ~" in requested(command="ls" + " " * 300 + "; rm -r ~")


def test_no_argument_beside_an_edit_hides_from_who_approves_it():
    shown = requested(tool="run", path="a", content="b", command="rm -r ~")
    assert "+b" in shown and "command: rm -r ~" in shown


def test_of_a_long_call_the_end_is_shown_too_and_what_is_not_is_counted():
    shown = requested(command="\n".join([*(f"echo {number}" for number in range(200)), "rm -r ~"]))
    assert "echo 0\n" in shown and "rm -r ~" in shown and "142 lines are not shown" in shown
    assert len(shown.splitlines()) < 70


def test_who_asks_for_what_is_said_as_several_agents_may_be_at_work():
    assert "shell (main/tester-2)" in requested(agent="main/tester-2", command="ls")


@pytest.mark.parametrize("text", ["Bonjour\u00a0!", "日本\u3000語", "می\u200cخواهم", "👨\u200d👩\u200d👧"])
def test_spaces_and_joiners_of_other_scripts_are_shown_as_they_are(text):
    assert cleaned(text) == text


@pytest.mark.parametrize("width", [1, 12, 22])
def test_waiting_takes_one_line_of_the_narrowest_terminal(width):
    world = World(terminal=True)
    world.screen._console.width = width
    world.screen._quiet_since -= 10
    world.screen.tick()
    assert "\n" not in world.file.getvalue()
