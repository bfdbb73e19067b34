"""Calls in short, and as diffs."""

import pytest

from tumbler.cli.agents.calls import beside_changes, changes, headline, in_full


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ({"command": "ls -l\n  | sort"}, "tool ls -l | sort"),
        ({"content": "x", "path": "a/b"}, "tool a/b"),
        ({"paths": ["a", "b"]}, "tool a b"),
        ({"odd": 7}, "tool 7"),
        ({}, "tool"),
        ({"command": "x" * 300}, f"tool {'x' * 99}…"),
    ],
)
def test_a_call_is_one_line(arguments, shown):
    assert headline("tool", arguments) == shown


def test_all_that_a_call_says_is_shown_for_approval():
    assert in_full({"command": "a\nb", "timeout": 3}) == ["command:", "  a", "  b", "timeout: 3"]


def test_an_edit_of_a_known_file_is_a_diff_with_its_surroundings():
    before = "\n".join(str(number) for number in range(1, 20)) + "\n"
    shown = changes({"path": "a", "old": "\n9\n", "new": "\nnine\n"}, before)
    assert shown == ["@@ -7,5 +7,5 @@", " 7", " 8", "-9", "+nine", " 10", " 11"]


def test_an_edit_of_an_unknown_file_is_what_goes_and_what_comes():
    assert changes({"path": "a", "old": "x", "new": "y"}, None)[1:] == ["-x", "+y"]


def test_several_edits_and_all_places_of_one():
    arguments = {"path": "a", "edits": [{"old": "x", "new": "y", "replace_all": True}, {"old": "b", "new": "c"}]}
    assert changes(arguments, "x\nx\nb")[1:] == ["-x", "-x", "-b", "+y", "+y", "+c"]


def test_a_file_that_is_overwritten_shows_what_is_lost():
    assert changes({"path": "a", "content": "new\n"}, "old\n")[1:] == ["-old", "+new"]
    assert changes({"path": "a", "content": "new\n"}, None)[1:] == ["+new"]


@pytest.mark.parametrize(
    "arguments", [{"command": "ls"}, {"path": "a"}, {"path": "a", "old": "", "new": "b"}, {"path": 3}]
)
def test_what_changes_no_file_has_no_diff(arguments):
    assert changes(arguments, "text") == []


@pytest.mark.parametrize(
    ("arguments", "left"),
    [
        ({"path": "a", "content": "b"}, {}),
        ({"path": "a", "old": "b", "new": "c", "replace_all": False}, {}),
        ({"path": "a", "old": "b", "new": "c", "replace_all": True}, {"replace_all": True}),
        ({"path": "a", "content": "b", "command": "rm -r ."}, {"command": "rm -r ."}),
        ({"path": "a", "edits": [{"old": "b", "new": "c"}], "old": "x"}, {"old": "x"}),
        (
            {"path": "a", "edits": [{"old": "b", "new": "c", "then": "x"}]},
            {"edits": [{"old": "b", "new": "c", "then": "x"}]},
        ),
    ],
)
def test_what_a_diff_does_not_show_is_known(arguments, left):
    assert beside_changes(arguments) == left
