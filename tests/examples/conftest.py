"""Installs the example in a virtual environment of its own."""

import shutil
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def hello(fresh_venv, tmp_path_factory):
    """Install a copy of the example in that environment and return the copy's folder."""
    folder = tmp_path_factory.mktemp("hello") / "tumbler-hello"
    ignored = shutil.ignore_patterns("__pycache__", "runs", ".*_cache")
    shutil.copytree(EXAMPLES / "tumbler-hello", folder, ignore=ignored)
    fresh_venv.install(folder)
    return folder
