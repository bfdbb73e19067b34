"""Runs a contract suite by hand, and makes broken implementations of sound ones."""

import inspect

import pytest


@pytest.fixture
def caught(tmp_path):
    """Return a function that runs every test of a suite and returns the names of those that fail."""

    def run(suite, **fixtures):
        failed = set()
        for number, (name, test) in enumerate(inspect.getmembers(suite, inspect.isfunction)):
            if not name.startswith("test_"):
                continue
            folder = tmp_path / str(number)
            folder.mkdir()
            with pytest.MonkeyPatch.context() as monkeypatch:
                known = {"tmp_path": folder, "model_folder": folder, "monkeypatch": monkeypatch, **fixtures}
                arguments = {each: known[each] for each in inspect.signature(test).parameters if each != "self"}
                try:
                    test(suite(), **arguments)
                except pytest.skip.Exception:
                    continue
                except (Exception, pytest.fail.Exception):
                    failed.add(name)
        return failed

    return run


@pytest.fixture
def broken():
    """Return a function from a sound class and some members to a class with those in place of its own."""

    def change(base, members):
        return type("Broken", (base,), members)

    return change
