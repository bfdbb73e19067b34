"""Editable installations whose entry points are no longer those of pyproject.toml."""

import json
from importlib.metadata import distributions

import pytest

from tumbler.plugins.drift import drifted_entry_points

PYPROJECT = """
[project]
name = "tumbler-hiking"

[project.entry-points."tumbler.v1"]
{plugins}
"""


@pytest.fixture
def editable(site, tmp_path):
    """Install `hiking` editable; return a function that writes its pyproject.toml and tells the drift."""
    source = tmp_path / "my source"
    source.mkdir()
    info = site.add("tumbler-hiking", "1.0", {"hiking": "hiking_plugin"})

    def drift(plugins: str, *, is_editable: bool = True, pyproject: str = PYPROJECT) -> list[str]:
        record = {"url": source.as_uri(), "dir_info": {"editable": is_editable}}
        (info / "direct_url.json").write_text(json.dumps(record))
        (source / "pyproject.toml").write_text(pyproject.format(plugins=plugins))
        return drifted_entry_points(distributions(path=[str(site.folder)]))

    return drift


def test_an_installation_that_agrees_has_not_drifted(editable):
    assert editable('hiking = "hiking_plugin"') == []


@pytest.mark.parametrize(
    ("plugins", "said"),
    [
        ('hiking = "hiking_plugin"\nrowing = "rowing_plugin"', "'rowing' is in"),
        ("", "'hiking' is installed but no longer in"),
        ('hiking = "other_plugin"', "installed as hiking_plugin"),
    ],
)
def test_each_way_of_drifting_is_told_with_the_word_reinstall(editable, tmp_path, plugins, said):
    (problem,) = editable(plugins)
    assert said in problem
    assert f"reinstall it with: pip install -e '{tmp_path / 'my source'}'" in problem


def test_an_ordinary_installation_cannot_drift(editable):
    assert editable("", is_editable=False) == []


def test_a_project_that_does_not_say_is_not_judged(editable):
    assert editable("", pyproject="[project]\ndynamic = ['entry-points']") == []
    assert editable("", pyproject="[tool.poetry]") == []
    assert editable("", pyproject="not = = toml") == []


def test_a_distribution_without_an_origin_is_not_judged(site):
    site.add("tumbler-hiking", "1.0", {"hiking": "hiking_plugin"})
    assert drifted_entry_points(distributions(path=[str(site.folder)])) == []


def test_this_installation_has_not_drifted():
    assert drifted_entry_points() == []
