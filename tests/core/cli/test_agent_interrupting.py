"""Ctrl-C at the terminal: it reaches whoever reads or looks, and nothing else is cut short by it."""

import os
import signal

import pytest

from tumbler.cli.agents.interrupting import Interruptions


def interrupt() -> None:
    """Press Ctrl-C; Python's handlers run at once in the main thread."""
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def interruptions():
    interruptions = Interruptions()
    with interruptions.caught():
        yield interruptions


def test_one_that_comes_while_nothing_is_read_raises_nowhere_and_is_noted_once(interruptions):
    interrupt()
    assert interruptions.take() and not interruptions.take()


def test_one_that_comes_while_something_is_read_breaks_that_off(interruptions):
    with pytest.raises(KeyboardInterrupt):
        interruptions.read(lambda: str(interrupt()))
    assert not interruptions.take()


def test_one_that_came_just_before_the_reading_is_not_lost(interruptions):
    interrupt()
    with pytest.raises(KeyboardInterrupt):
        interruptions.read(lambda: "never asked")
    assert interruptions.read(lambda: "typed") == "typed"


def test_the_next_one_waits_until_the_first_one_has_been_dealt_with(interruptions):
    """A second Ctrl-C while the answer to the first is printed once ended the whole program."""
    try:
        interruptions.read(lambda: str(interrupt()))
    except KeyboardInterrupt:
        interrupt()
    with pytest.raises(KeyboardInterrupt):
        interruptions.read(lambda: "never asked")


def test_the_clean_up_of_what_was_read_is_not_cut_short_by_the_next_one(interruptions):
    cleaned = []

    def ask():
        try:
            interrupt()
        finally:
            interrupt()
            cleaned.append(True)

    with pytest.raises(KeyboardInterrupt):
        interruptions.read(ask)
    assert cleaned and interruptions.take()


def test_the_second_one_in_a_row_leaves_however_long_it_takes_and_anything_between_them_counts(interruptions):
    assert not interruptions.again()
    assert interruptions.again()
    interruptions.over()
    assert not interruptions.again()


def test_afterwards_interruptions_are_what_they_were():
    before = signal.getsignal(signal.SIGINT)
    with Interruptions().caught():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
