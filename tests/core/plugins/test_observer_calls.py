"""Observers hear of events, and their failures reach the log only."""

import logging

import pytest

from tumbler.errors import ContractError

FAILS = """
    @hookimpl
    def tumbler_checkpoint_saved(run, stage, path):
        raise RuntimeError("disk is full")


    @hookimpl
    def tumbler_report(folder):
        raise RuntimeError("no ink")
"""

HEARS = """
    heard = []


    @hookimpl
    def tumbler_checkpoint_saved(path):
        heard.append(path)


    @hookimpl
    def tumbler_report(folder):
        return folder / "{name}.txt"
"""


@pytest.fixture
def host(site):
    """Four plugins of two distributions; `bravo` fails at every event."""
    hears = "from tumbler import hookimpl\n" + HEARS.replace("\n    ", "\n")
    fails = "from tumbler import hookimpl\n" + FAILS.replace("\n    ", "\n")
    site.add(
        "watchers",
        "1.0",
        {"alfa": "alfa_plugin", "bravo": "bravo_plugin", "mute": "mute_plugin"},
        files={
            "alfa_plugin.py": hears.format(name="alfa"),
            "bravo_plugin.py": fails,
            "charlie_plugin.py": hears.format(name="charlie"),
            "mute_plugin.py": "from tumbler import hookimpl\n\n\n@hookimpl\ndef tumbler_report(): return None\n",
        },
    )
    # First-party plugins are registered before all others, so that names alone cannot give the order.
    site.add("tumbler", "1.0", {"charlie": "charlie_plugin"})
    host = site.load()
    assert host.check() == []
    return host


def test_every_observer_hears_of_an_event_though_one_fails(host, caplog):
    host.observers.emit("tumbler_checkpoint_saved", run=None, stage=None, path="p1")
    import alfa_plugin
    import charlie_plugin

    assert alfa_plugin.heard == charlie_plugin.heard == ["p1"]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("tumbler.observers", logging.ERROR)
    assert "'bravo'" in record.getMessage()
    assert "tumbler_checkpoint_saved" in record.getMessage()
    assert "disk is full" in record.getMessage()


def test_the_traceback_of_a_failing_observer_is_logged_once_for_each_hook(host, caplog):
    for _ in range(3):
        host.observers.emit("tumbler_checkpoint_saved", run=None, stage=None, path="p1")
    host.observers.collect("tumbler_report", folder=None)
    traced = [record.exc_info is not None for record in caplog.records if "'bravo'" in record.getMessage()]
    assert traced == [True, False, False, True]


def test_results_are_collected_by_plugin_name_and_those_without_are_left_out(host, tmp_path):
    assert host.observers.collect("tumbler_report", folder=tmp_path) == [
        ("alfa", tmp_path / "alfa.txt"),
        ("charlie", tmp_path / "charlie.txt"),
    ]


def test_an_event_that_does_not_fit_its_hook_is_the_callers_error(host):
    with pytest.raises(ContractError, match="tumbler_checkpoint_saved tells run, stage, path"):
        host.observers.emit("tumbler_checkpoint_saved", run=None, path="p1")
    with pytest.raises(ContractError, match="no hook 'tumbler_checkpoint_lost'"):
        host.observers.emit("tumbler_checkpoint_lost", run=None)
