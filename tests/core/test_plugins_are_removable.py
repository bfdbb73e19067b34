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
from collections.abc import Mapping
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

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
SETTINGS = {
    ("model", "gguf"): 'path = "model.gguf"',
    ("model", "folder"): 'path = "model"',
    ("agent", "process"): 'launch = ["program"]',
    ("backend", "replay"): 'trajectories = ["run"]',
    ("backend", "openai"): 'base_url = "http://127.0.0.1:8000/v1"\nmodel = "small"',
}
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


class Outcome(NamedTuple):
    """What a command came to."""

    code: int
    text: str


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

    def run(self, commands: Mapping[str, tuple[Path, list[str]]]) -> dict[str, Outcome]:
        """Run commands `tumbler` of this copy, each in its folder, one after another in one process."""
        # `-S` keeps the editable installation, which a .pth file brings, out of the way.
        path = os.pathsep.join([str(self.folder), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        given = json.dumps([[str(folder), arguments] for folder, arguments in commands.values()])
        command = [sys.executable, "-S", "-c", RUN_COMMANDS]
        finished = subprocess.run(command, input=given, env=environment, capture_output=True, text=True, check=False)
        assert finished.returncode == 0, finished.stdout + finished.stderr
        outcomes = json.loads(finished.stdout)
        return {name: Outcome(*outcome) for name, outcome in zip(commands, outcomes, strict=True)}


RUN_COMMANDS = """
import contextlib, io, json, os, sys
from tumbler.cli.main import main

outcomes = []
for folder, arguments in json.load(sys.stdin):
    os.chdir(folder)
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        code = main(arguments)
    outcomes.append([code, output.getvalue()])
print(json.dumps(outcomes))
"""
"""Starting Tumbler takes longer than most of its commands, so one process runs them all."""


@pytest.fixture(scope="module")
def host() -> PluginHost:
    """All first-party plugins."""
    return PluginHost.load(allow=["tumbler"])


@pytest.fixture(scope="module", params=sorted(PLUGINS))
def removed(request) -> str:
    return request.param


@pytest.fixture(scope="module")
def folder(tmp_path_factory, removed) -> Path:
    return tmp_path_factory.mktemp("installation")


@pytest.fixture(scope="module")
def outcomes(folder, removed, host) -> dict[str, Outcome]:
    """What commands do where the plugin is missing, each in a folder of its name."""
    installation = Installation(folder / "site", without=removed)
    installation.add_third_parties()
    rest = [each for each in host.components() if each.plugin != removed]
    agents = [each for each in rest if each.kind == "agent"]
    uses = [each for each in host.components() if each.plugin == removed]
    commands = {
        "list": ("", ["plugins", "--json", "--check"]),
        "unused": (registry_of(rest), ["check"]),
        "used": (registry_of([*agents, *uses]), ["check"]),
        "run": (SPARE_RUN, ["run", "spare", "--folder", "spare"]),
    }
    for name, (registry, _) in commands.items():
        (folder / name).mkdir()
        (folder / name / "registry.toml").write_text(registry)
    return installation.run({name: (folder / name, arguments) for name, (_, arguments) in commands.items()})


def registry_of(components) -> str:
    """Return a registry that names every one of the components."""
    blocks = ["schema = 1"]
    agents = [each.id for each in components if each.kind == "agent"]
    for each in components:
        if each.kind != "context-strategy":
            settings = SETTINGS.get((each.kind, each.id), "")
            blocks.append(f'[{SECTIONS[each.kind]}.my-{each.id}]\nuse = "{each.id}"\n{settings}')
        elif agents:
            blocks.append(f'[agents.with-{each.id}]\nuse = "{agents[0]}"\ncontext = ["{each.id}"]')
    return "\n\n".join(blocks) + "\n"


def test_the_other_plugins_are_listed(outcomes, removed):
    code, text = outcomes["list"]
    assert code == 0, text
    plugins = [each for each in json.loads(text)["plugins"] if each["distribution"] == "tumbler"]
    assert {each["name"]: each["status"] for each in plugins} == dict.fromkeys(PLUGINS.keys() - {removed}, "ok")


def test_a_registry_that_does_not_use_it_has_no_problem(outcomes):
    code, text = outcomes["unused"]
    assert code == 0, text
    assert "ok: registry.toml" in text


def test_a_registry_that_uses_it_is_told_what_is_missing(outcomes, removed, host):
    code, text = outcomes["used"]
    components = [each for each in host.components() if each.plugin == removed]
    assert code == bool(components), "a plugin that only observes is named in no registry"
    for component in components:
        assert f"no installed plugin offers the {component.kind} '{component.id}'" in text
    assert "Traceback" not in text


def test_a_run_that_does_not_use_it_ends(outcomes, folder):
    code, text = outcomes["run"]
    assert code == 0, text
    results = json.loads((folder / "run/spare/results.json").read_text())
    assert [each["kind"] for each in results["stages"]] == ["sft", "rl", "eval"]


PLAIN_WORDS = {
    *("context", "docker", "e2b", "folder", "gateway", "local", "modal", "models", "none", "notes"),
    *(
        "process",
        "progress",
        "ray",
        "replay",
        "report",
        "scripted",
        "service",
        "summary",
        "torch",
        "transformers",
        "trl",
    ),
    "vllm",
}
"""Names of plugins and components that also name other things: keys, commands, modes, tiers, roles and packages."""


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
