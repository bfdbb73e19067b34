"""The thread on which a backend computes: in order, one at a time, and gone when there is nothing to do."""

import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
import torch

from tumbler.errors import InferenceError
from tumbler_backends.computing import ComputingThread

ENOUGH_S = 30


def new(**options) -> ComputingThread:
    return ComputingThread("sample", error=InferenceError, **options)


def living() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name == "tumbler-sample"]


def wait_until_idle() -> None:
    end = time.monotonic() + ENOUGH_S
    while living():
        assert time.monotonic() < end, "the thread is still there"
        time.sleep(0.005)


def test_calls_run_in_order_on_a_thread_that_ends_when_it_is_idle():
    thread, seen = new(), []
    for number in range(50):
        thread.call(lambda number=number: seen.append((number, threading.get_ident())))
    last = thread.call(threading.get_ident).result(ENOUGH_S)
    assert seen == [(number, last) for number in range(50)]
    assert last != threading.get_ident()
    wait_until_idle()
    assert thread.call(lambda: "again").result(ENOUGH_S) == "again"
    wait_until_idle()


def test_no_call_is_lost_that_comes_just_when_the_thread_leaves(monkeypatch):
    monkeypatch.setattr("tumbler_backends.computing._IDLE_S", 1e-4)
    thread, done = new(), []
    for number in range(500):
        thread.call(lambda number=number: done.append(number)).result(ENOUGH_S)
        time.sleep(1e-4 * (number % 3))
    assert done == list(range(500))
    thread.close(ENOUGH_S)


def test_a_call_that_raises_tells_its_caller_and_nobody_else():
    thread = new()
    failed = thread.call(lambda: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        failed.result(ENOUGH_S)
    assert thread.call(lambda: "on").result(ENOUGH_S) == "on"
    thread.close(ENOUGH_S)


def test_a_call_that_is_cancelled_before_it_begins_does_not_run():
    thread, gate, ran = new(), threading.Event(), []
    first = thread.call(lambda: gate.wait(ENOUGH_S))
    second = thread.call(lambda: ran.append(2))
    assert second.cancel()
    gate.set()
    assert first.result(ENOUGH_S)
    thread.close(ENOUGH_S)
    assert not ran
    with pytest.raises(CancelledError):
        second.result(ENOUGH_S)


def test_it_steps_for_as_long_as_there_is_work_and_takes_commands_in_between():
    left, seen = [3], []

    def step() -> bool:
        seen.append(left[0])
        left[0] -= 1
        return left[0] > 0

    thread = new(step=step)
    thread.post(lambda: None)
    wait_until_idle()
    assert seen == [3, 2, 1]
    left[0] = 1
    thread.post(lambda: seen.append("command"))
    wait_until_idle()
    assert seen == [3, 2, 1, "command", 1]
    thread.close(ENOUGH_S)


@pytest.mark.parametrize("idle", [True, False])
def test_stop_is_called_once_and_last_whether_or_not_a_thread_is_left(idle):
    seen = []
    thread = new(stop=lambda: seen.append("stopped"))
    thread.post(lambda: seen.append("command"))
    if idle:
        wait_until_idle()
    thread.close(ENOUGH_S)
    thread.close(ENOUGH_S)
    assert seen == ["command", "stopped"]
    assert not living()
    with pytest.raises(InferenceError, match="the sample backend is closed"):
        thread.post(lambda: seen.append("late"))


def test_each_new_thread_computes_with_the_processors_it_was_given():
    chosen = torch.get_num_threads()
    three, own = new(processors=3), new()
    for _ in range(2):
        assert three.call(torch.get_num_threads).result(ENOUGH_S) == 3
        assert own.call(torch.get_num_threads).result(ENOUGH_S) == chosen
        wait_until_idle()
    for thread in (three, own):
        thread.close(ENOUGH_S)


def test_the_helpers_of_an_idle_thread_are_gone_with_it():
    many = torch.ones(1 << 20)
    thread = new(processors=4)

    def tasks() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Threads:"))

    before = tasks()
    assert thread.call(lambda: (many.exp(), tasks())[1]).result(ENOUGH_S) == before + 4
    wait_until_idle()
    end = time.monotonic() + ENOUGH_S
    while tasks() > before:
        assert time.monotonic() < end, f"{tasks() - before} helpers are left"
        time.sleep(0.005)
    thread.close(ENOUGH_S)
