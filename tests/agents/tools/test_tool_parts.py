"""The parts of the tool set that need no sandbox: patterns, bounds, the ledger, schemas."""

import json
import re

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.testing.memory_sandbox import MemorySandboxBackend
from tumbler_agents.tools.bounds import bounded, cut_line
from tumbler_agents.tools.checked import Refusal
from tumbler_agents.tools.ledger import FileLedger
from tumbler_agents.tools.patterns import compiled, fixed_folder
from tumbler_agents.tools.replacing import Replacement, replaced
from tumbler_agents.tools.sandbox import sandbox_tools


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("*.py", ["a.py", ".py"], ["a/b.py", "a.pyc"]),
        ("**/*.py", ["a.py", "a/b.py", "a/b/c.py"], ["a.txt"]),
        ("a/**", ["a/b", "a/b/c"], ["a", "b/a"]),
        ("a**b", ["ab", "axxb"], ["a/b"]),
        ("[!a]x", ["bx"], ["ax", "/x"]),
        ("[]-]", ["]", "-"], ["a"]),
        ("[", ["["], ["a"]),
        ("{a,b/c}.{x,y}", ["a.x", "b/c.y"], ["a.z", "{a,b}.x"]),
        ("{a,{b,c}}", ["a", "b", "c"], ["{b", ","]),
        ("{a", ["{a"], ["a"]),
        ("a,b}", ["a,b}"], ["a"]),
        ("a.b+c", ["a.b+c"], ["axbbc"]),
        ("?", ["x", "\n"], ["/", "xx"]),
    ],
)
def test_a_pattern_matches_what_it_says(pattern, matches, others):
    expression = compiled(pattern)
    assert [name for name in [*matches, *others] if expression.fullmatch(name)] == matches


@given(st.text())
def test_any_text_is_a_pattern(text):
    assert isinstance(compiled(text), re.Pattern)


@pytest.mark.parametrize(
    ("pattern", "parts"),
    [
        ("*.py", (".", "*.py")),
        ("a/b/*.py", ("a/b", "*.py")),
        ("/*", ("/", "*")),
        ("./a/*", ("a", "*")),
        ("a", (".", "a")),
    ],
)
def test_the_folder_that_a_pattern_begins_with_is_told(pattern, parts):
    assert fixed_folder(pattern) == parts


@given(st.text(alphabet="ab\n", max_size=400), st.integers(20, 100))
def test_what_is_left_out_is_counted_exactly(text, limit):
    shown = bounded(text, limit)
    found = re.search(r"\n\[\.\.\. (\d+) characters", shown)
    if len(text) <= limit:
        assert shown == text
    else:
        assert found is not None
        tail = shown[shown.index(" left out ...]\n") + len(" left out ...]\n") :]
        assert text.startswith(shown[: found.start()])
        assert text.endswith(tail)
        head_with_ends = len(text) - int(found[1]) - len(tail)
        assert text[:head_with_ends].rstrip("\n") == shown[: found.start()]
        assert head_with_ends + len(tail) <= limit


def test_a_line_is_cut_only_where_it_is_too_long():
    assert cut_line("abc", 3) == "abc"
    assert cut_line("abcd", 3) == "abc [... 1 characters left out]"


@given(st.text(alphabet="ab\r\n"), st.text(alphabet="ab\n", min_size=1), st.text(alphabet="xy\n"))
def test_a_replacement_changes_only_the_place(text, old, new):
    try:
        after, lines = replaced(text, Replacement(old=old, new=new))
    except Refusal:
        return
    assert len(lines) == 1
    assert after.replace("\r", "").replace("\n", "") == (
        text.replace("\r\n", "\n").replace(old, new, 1).replace("\r", "").replace("\n", "")
    )


def test_a_ledger_tells_what_is_known_and_what_was_seen_last():
    ledger = FileLedger()
    for path in ("a", "b", "c", "a"):
        ledger.saw(path, path.encode())
    assert ledger.recent(2) == ["a", "c"]
    assert (ledger.knows("a", b"a"), ledger.knows("a", b"x"), ledger.knows("d", b"")) == (
        "current",
        "changed",
        "unread",
    )
    restored = FileLedger.restored(json.loads(json.dumps(ledger.state())))
    assert restored.recent(9) == ledger.recent(9) == ["a", "c", "b"]
    assert restored.knows("b", b"b") == "current"


@pytest.mark.parametrize("state", [{}, {"files": 3}, {"files": [["a"]]}, {"files": [["a", 1]]}, {"files": ["ab"]}])
def test_what_is_no_state_of_a_ledger_is_refused(state):
    with pytest.raises(ValueError, match="ledger"):
        FileLedger.restored(state)


async def test_each_tool_has_a_legal_schema_that_refuses_what_the_call_refuses():
    box = await MemorySandboxBackend().create(SandboxSpec())
    tools = sandbox_tools(box)
    assert [tool.spec.name for tool in tools] == [
        "shell", "read", "read_many", "write", "edit", "multi_edit", "list", "glob", "search",
    ]  # fmt: skip
    assert [tool.spec.name for tool in tools if not tool.reads_only] == ["shell", "write", "edit", "multi_edit"]
    for tool in tools:
        schema = json.loads(json.dumps(tool.spec.parameters))
        jsonschema.Draft202012Validator.check_schema(schema)
        assert tool.spec.description.endswith(".")
        assert all(field.get("description") for field in schema["properties"].values())
        assert '"title"' not in json.dumps(schema)
        assert schema["additionalProperties"] is False
        output = await tool.call({"wrong": 1})
        assert output.errored
        assert "no argument 'wrong'" in output.text
