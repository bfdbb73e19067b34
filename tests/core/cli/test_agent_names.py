"""What the commands say names no first-party plugin: neither quoted, nor as a default, nor as an option's value.

That no constant of the core is such a name as a whole is tested for all of it beside the removal of plugins.
"""

import ast
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import tumbler.cli
from tumbler.plugins import PluginHost

FOLDER = Path(tumbler.cli.__file__).parent
SYSTEM_PACKAGES = {"doctor.py": {"bubblewrap"}}
"""Prose about a package of the system that has a plugin's name."""
MODES = {"none"}
"""What options call a mode, and a strategy is called, too."""
SINGLED_OUT = r"""(['"`])({names})\1|(?:default: |(?<!-)--[a-z-]+ )({names})(?![\w/.-])"""


@pytest.fixture(scope="module")
def names() -> set[str]:
    plugins = {point.name for point in entry_points(group="tumbler.v1") if point.dist and point.dist.name == "tumbler"}
    return plugins | {each.id for each in PluginHost.load(allow=["tumbler"]).components()}


def told(source: str) -> list[str]:
    """Return the texts of a module that are not its documentation."""
    tree = ast.parse(source)
    kinds = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    documented = {ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, kinds)}
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return [text for text in texts if text not in documented]


def named(texts: list[str], names: set[str]) -> list[str]:
    """Return the names that texts single out."""
    pattern = re.compile(SINGLED_OUT.format(names="|".join(map(re.escape, sorted(names)))))
    return [match[2] or match[3] for text in texts for match in pattern.finditer(text)]


def test_the_search_finds_names_that_are_singled_out():
    source = 'def f():\n    """A `box`."""\n    return "a box", "the \'box\'", f"default: box {f}", "--sandbox box"\n'
    assert named(told(source), {"box"}) == ["box", "box", "box"]


@pytest.mark.parametrize("path", sorted(FOLDER.rglob("*.py")), ids=lambda path: path.name)
def test_a_command_singles_out_no_plugin(path, names):
    found = named(told(path.read_text(encoding="utf-8")), names - MODES - SYSTEM_PACKAGES.get(path.name, set()))
    assert not found, "choose through the plugin host: tumbler.plugins.defaults"
