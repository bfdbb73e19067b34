"""Gives the tests of examples a virtual environment of their own."""

import importlib.util
import shutil
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def fresh_venv(tmp_path_factory):
    """Return a virtual environment that sees what this one has installed."""
    spec = importlib.util.spec_from_file_location("tumbler_test_fresh_venv", TESTS / "fresh_venv.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FreshVenv(tmp_path_factory.mktemp("venv") / "venv")


@pytest.fixture(scope="session")
def hello(fresh_venv, tmp_path_factory):
    """Install a copy of the example in that environment and return the copy's folder."""
    folder = tmp_path_factory.mktemp("hello") / "tumbler-hello"
    ignored = shutil.ignore_patterns("__pycache__", "runs", ".*_cache")
    shutil.copytree(TESTS.parent / "examples" / "tumbler-hello", folder, ignore=ignored)
    fresh_venv.install(folder)
    return folder
