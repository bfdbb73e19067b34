"""One message without a person: what reaches a terminal does not steer it."""

import io
import sys

import pytest

from tumbler.cli.agents.once import _report
from tumbler.contracts.conversation import Done

HOSTILE = "\x1b]52;c;cHdu\x07"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Mind:
    def advice(self, problem):
        return ""


class Party:
    mind = Mind()


@pytest.mark.parametrize("reason", ["finished", "failed"])
def test_neither_an_answer_nor_an_error_steers_the_terminal(reason, monkeypatch, capsys):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    _report(Party(), Done(reason=reason, text=f"Here: {HOSTILE}"), 0, None, as_json=False)
    shown = terminal.getvalue() + capsys.readouterr().err
    assert "Here: " in shown and "\x1b" not in shown and "\x07" not in shown


def test_an_answer_goes_into_a_file_or_a_pipe_as_it_is(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)
    _report(Party(), Done(reason="finished", text=HOSTILE), 0, None, as_json=False)
    assert file.getvalue() == f"{HOSTILE}\n"
