"""Each first-party plugin can be left out of an installation: nothing in the core knows a plugin by name.

A copy of the installation lacks the plugin's entry point and its code; everything else must go on there.
"""

import ast
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path

import pytest

import tumbler
from tumbler.plugins import PluginHost
from tumbler.scaffolding.names import plugin_names
from tumbler.scaffolding.writing import plugin_files
from tumbler.specs import KINDS

TESTS = Path(__file__).parents[1]
PLUGINS = {
    point.name: point.value
    for point in entry_points(group="tumbler.v1")
    if point.dist is not None and point.dist.name == "tumbler"
}
SECTIONS = {
    "environment": "envs",
    "algorithm": "algorithms",
    "agent": "agents",
    "backend": "backends",
    "model": "models",
}
SETTINGS = {"gguf": 'path = "model.gguf"', "folder": 'path = "model"'}
"""Settings of components that have some without a default."""

SPARE_RUN = """
schema = 1

[runs.spare]
env = "spare/spare"
agent = "spare/spare"
algorithm = "spare/spare"
backends = { inference = "fake/scripted", training = "fake/counter", execution = "spare/spare" }
stages = ["sft", "rl", "eval"]
sft = { demonstrations = 4, steps = 2, batch_size = 2 }
rl = { steps = 1 }
eval = { episodes = 2 }
"""
"""A run of third-party components alone."""


class Installation:
    """A copy of Tumbler with metadata of its own, and a command that sees it and no other Tumbler."""

    def __init__(self, folder: Path, *, without: str) -> None:
        self.folder = folder
        for package in {"tumbler", *(value.partition(".")[0] for value in PLUGINS.values())}:
            spec = find_spec(package)
            shutil.copytree(
                spec.submodule_search_locations[0], folder / package, ignore=shutil.ignore_patterns("__pycache__")
            )
        self.declare("tumbler", tumbler.__version__, {name: PLUGINS[name] for name in PLUGINS if name != without})
        removed = folder.joinpath(*PLUGINS[without].split(".")[:-1])
        assert removed.is_dir() and removed.parent != folder
        shutil.rmtree(removed)

    def declare(self, distribution: str, version: str, plugins: dict[str, str]) -> None:
        """Write a distribution's metadata."""
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {distribution}\nVersion: {version}\n")
        listed = "\n".join(f"{name} = {value}" for name, value in plugins.items())
        (info / "entry_points.txt").write_text(f"[tumbler.v1]\n{listed}\n")

    def add_third_parties(self) -> None:
        """Add a new plugin with every kind of component, and the fakes of the run tests."""
        for path, text in plugin_files(plugin_names("spare"), list(KINDS)).items():
            if path.startswith("src/"):
                target = self.folder / path.removeprefix("src/")
                target.parent.mkdir(exist_ok=True)
                target.write_text(text)
        self.declare("tumbler-spare", "1.0", {"spare": "tumbler_spare.plugin"})
        shutil.copy(TESTS / "core/run/plugin/tumbler_fake_run.py", self.folder)
        self.declare("tumbler-fake-run", "1.0", {"fake": "tumbler_fake_run"})

    def run(self, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """Run the command `tumbler` of this copy."""
        # `-S` keeps the editable installation, which a .pth file brings, out of the way.
        path = os.pathsep.join([str(self.folder), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-S", "-m", "tumbler.cli.main", *arguments]
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def host() -> PluginHost:
    """All first-party plugins."""
    return PluginHost.load(allow=["tumbler"])


@pytest.fixture(scope="module", params=sorted(PLUGINS))
def removed(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def without(tmp_path_factory, removed) -> Installation:
    return Installation(tmp_path_factory.mktemp("installation") / "site", without=removed)


def registry_of(components) -> str:
    """Return a registry that names every one of the components."""
    blocks = ["schema = 1"]
    agents = [each.id for each in components if each.kind == "agent"]
    for each in components:
        if each.kind != "context-strategy":
            settings = SETTINGS.get(each.id, "")
            blocks.append(f'[{SECTIONS[each.kind]}.my-{each.id}]\nuse = "{each.id}"\n{settings}')
        elif agents:
            blocks.append(f'[agents.with-{each.id}]\nuse = "{agents[0]}"\ncontext = ["{each.id}"]')
    return "\n\n".join(blocks) + "\n"


def test_the_other_plugins_are_listed(without, removed, tmp_path):
    finished = without.run("plugins", "--json", "--check", cwd=tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    plugins = {each["name"]: each["status"] for each in json.loads(finished.stdout)["plugins"]}
    assert plugins == dict.fromkeys(PLUGINS.keys() - {removed}, "ok")


def test_a_registry_that_does_not_use_it_has_no_problem(without, removed, host, tmp_path):
    text = registry_of([each for each in host.components() if each.plugin != removed])
    (tmp_path / "registry.toml").write_text(text)
    finished = without.run("check", cwd=tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "ok: registry.toml" in finished.stdout


def test_a_registry_that_uses_it_is_told_what_is_missing(without, removed, host, tmp_path):
    components = [each for each in host.components() if each.plugin == removed]
    if not components:
        pytest.skip("the plugin observes and offers no component that a registry could name")
    agents = [each for each in host.components("agent") if each.plugin != removed]
    (tmp_path / "registry.toml").write_text(registry_of([*agents, *components]))
    finished = without.run("check", cwd=tmp_path)
    assert finished.returncode == 1
    for component in components:
        assert f"no installed plugin offers the {component.kind} '{component.id}'" in finished.stdout + finished.stderr
    assert "Traceback" not in finished.stdout + finished.stderr


def test_a_run_that_does_not_use_it_ends(without, tmp_path):
    without.add_third_parties()
    (tmp_path / "registry.toml").write_text(SPARE_RUN)
    finished = without.run("run", "spare", "--folder", "spare", cwd=tmp_path)
    assert finished.returncode == 0, finished.stdout + finished.stderr
    results = json.loads((tmp_path / "spare/results.json").read_text())
    assert [each["kind"] for each in results["stages"]] == ["sft", "rl", "eval"]


PLAIN_WORDS = {"context", "folder", "local", "models", "none", "progress", "report", "torch", "transformers"}
"""Names of plugins and components that also name other things: keys, commands, modes and Python packages."""


def test_the_core_singles_out_no_plugin_or_component(host):
    names = {each.id for each in host.components()} | PLUGINS.keys()
    assert names >= PLAIN_WORDS, "a plain word that is no name any more"
    found = [
        f"{path}:{node.lineno}: {node.value!r}"
        for path in sorted(Path(tumbler.__file__).parent.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in names - PLAIN_WORDS
    ]
    assert not found, "the core must not name plugins or components: " + ", ".join(found)


def test_no_code_of_the_core_asks_for_a_component_by_a_fixed_name():
    """Plain words too: as the name in a call that looks up or builds a component."""
    found = [
        f"{path}:{node.lineno}"
        for path in sorted(Path(tumbler.__file__).parent.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("build", "component", "settings_model", "plugin")
        and any(isinstance(argument, ast.Constant) for argument in node.args[-1:])
    ]
    assert not found, "the core must not ask for plugins or components by name: " + ", ".join(found)
