"""`check_plugin` says nothing of a sound plugin, and names what is wrong with any other."""

from importlib.metadata import entry_points
from textwrap import dedent

import pytest

from tumbler.testing import check_plugin

PLUGIN = """
    {header}
    from tumbler import hookimpl
    from tumbler.specs import AgentSpec

    def load():
        {load}

    def config():
        {config}

    @hookimpl
    def tumbler_agents({arguments}):
        return [AgentSpec(name="{name}", summary="Walk.", load=load, config=config, extra={extra})]
"""
SOUND = {
    "header": "",
    "load": "from odd_parts import Walker; return Walker",
    "config": "from odd_parts import WalkerSettings; return WalkerSettings",
    "arguments": "",
    "name": "walker",
    "extra": None,
}
PARTS = """
    from tumbler.config import Settings

    class WalkerSettings(Settings):
        stride: int = 1

    class NeedsAStride(Settings):
        stride: int

    class Lax(Settings):
        model_config = {"extra": "allow"}

    class Walker:
        def __init__(self, settings):
            self.settings = settings

        async def run(self, episode):
            raise NotImplementedError

    class Sitter:
        def __init__(self, settings):
            pass
"""


@pytest.fixture
def check(site, monkeypatch):
    """Install the plugin `odd` with changes to a sound one and check it, as in a process that sees it."""

    def run(**changes):
        source = dedent(PLUGIN).format(**{**SOUND, **changes})
        site.add("odd-dist", "2.0", {"odd": "odd_plugin"}, files={"odd_parts.py": dedent(PARTS)}, extras=("fast",))
        (site.folder / "odd_plugin.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(site.folder))
        return check_plugin("odd")

    return run


@pytest.mark.parametrize("name", sorted(entry_points(group="tumbler.v1").names))
def test_nothing_is_wrong_with_what_is_installed(name):
    """But for packages that this environment does not have."""
    assert [problem for problem in check_plugin(name) if "install it with: pip install" not in problem] == []


def test_nothing_is_wrong_with_a_sound_plugin(check):
    assert check() == []


def test_settings_without_a_default_are_no_fault(check):
    assert check(config="from odd_parts import NeedsAStride; return NeedsAStride") == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"header": "import pydantic"}, "imports 'pydantic'; move the import into `load` or `config`"),
        ({"header": "import no_such_package"}, "No module named 'no_such_package'"),
        ({"name": "Walker"}, "lower-case words"),
        ({"arguments": "run"}, "there is no argument 'run'"),
        ({"arguments": "run=None"}, "has a default value"),
        ({"extra": "'slow'"}, "its extra 'slow' is not one of odd-dist"),
        ({"load": "import no_such_package"}, "install it with: pip install 'odd-dist'"),
        ({"load": "import no_such_package", "extra": "'fast'"}, "install it with: pip install 'odd-dist[fast]'"),
        ({"load": "from odd_parts import Sitter; return Sitter"}, "it lacks: run"),
        ({"load": "return 3"}, "must return a class"),
        ({"load": "1 / 0"}, "ZeroDivisionError"),
        ({"config": "return dict"}, "must return a subclass of tumbler.config.Settings"),
        ({"config": "from odd_parts import Lax; return Lax"}, 'must keep extra="forbid"'),
    ],
)
def test_a_fault_is_named(check, changes, said):
    assert said in "\n".join(check(**changes))


@pytest.mark.parametrize(
    ("load", "said"),
    [
        ("import no_such_package", "install it with: pip install 'odd-dist'"),
        ("from odd_parts import Sitter; return Sitter", "it lacks: run"),
        ("return 3", "must return a class"),
        ("1 / 0", "ZeroDivisionError"),
    ],
)
def test_a_component_without_default_settings_is_looked_at_too(check, load, said):
    problems = check(load=load, config="from odd_parts import NeedsAStride; return NeedsAStride")
    assert said in "\n".join(problems)


def test_a_plugin_that_is_not_installed_is_named_with_what_to_do():
    (problem,) = check_plugin("reakt")
    assert "there is no plugin 'reakt'. Did you mean 'react'?" in problem
    assert "reinstalled" in problem
