"""The fragments of the changelog: each a sentence for users, and towncrier takes them all."""

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FRAGMENTS = sorted((ROOT / "changes").glob("*.md"))


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda path: path.name)
def test_a_fragment_is_one_line_and_a_sentence(fragment):
    text = fragment.read_text(encoding="utf-8")
    assert text.count("\n") == 1 and text.endswith(".\n")


def test_towncrier_puts_every_fragment_into_the_changelog():
    command = [sys.executable, "-m", "towncrier", "build", "--draft"]
    drafted = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert drafted.returncode == 0, drafted.stderr
    for fragment in FRAGMENTS:
        assert f"- {fragment.read_text(encoding='utf-8').strip()}" in drafted.stdout, fragment.name


def test_the_types_of_changes_are_those_that_contributors_are_told():
    types = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["towncrier"]["type"]
    told = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert ", ".join(f"`{each['directory']}`" for each in types) in told
