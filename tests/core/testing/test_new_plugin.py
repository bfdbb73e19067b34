"""`tumbler new-plugin` writes distributions that install, pass their own tests and type-check at once."""

import json
import tomllib

import pytest

from tumbler.cli.main import main
from tumbler.errors import PluginError
from tumbler.scaffolding.kinds import KIND_PARTS
from tumbler.scaffolding.names import free_names, plugin_names
from tumbler.scaffolding.writing import plugin_files, write_plugin
from tumbler.specs import KINDS, BackendSpec

EVERY_KIND = [argument for kind in KINDS for argument in ("--kind", kind)]


@pytest.fixture(scope="module")
def written(fresh_venv, tmp_path_factory):
    """Write a plugin of every kind, and one of the default kind; install both and return their folders."""
    folder = tmp_path_factory.mktemp("new")
    fresh_venv.tumbler("new-plugin", "my-maze", *EVERY_KIND, cwd=folder)
    fresh_venv.tumbler("new-plugin", "plain", "--folder", "elsewhere", cwd=folder)
    for name in ("tumbler-my-maze", "elsewhere"):
        fresh_venv.install(folder / name)
    return {"my-maze": folder / "tumbler-my-maze", "plain": folder / "elsewhere"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["my-maze", "plain"])
def test_a_new_plugin_passes_its_own_tests(fresh_venv, written, name):
    assert " passed" in fresh_venv.python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=written[name])


@pytest.mark.slow
def test_a_new_plugin_type_checks(fresh_venv, written):
    assert "Success" in fresh_venv.python("-m", "mypy", cwd=written["my-maze"])


def test_a_new_plugin_is_listed_with_every_kind(fresh_venv, written):
    record = json.loads(fresh_venv.tumbler("plugins", "--json", "--check", cwd=written["my-maze"]))
    (plugin,) = [each for each in record["plugins"] if each["name"] == "my-maze"]
    assert plugin["status"] == "ok"
    assert {each["kind"] for each in plugin["components"]} == KINDS.keys()
    assert {each["id"] for each in plugin["components"]} == {"my-maze/my-maze"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["my-maze", "plain"])
def test_the_run_of_a_new_plugin_ends(fresh_venv, written, name):
    folder = written[name]
    fresh_venv.tumbler("check", "--run", "demo", cwd=folder)
    fresh_venv.tumbler("run", "demo", "--folder", "runs/demo", cwd=folder)
    results = json.loads((folder / "runs/demo/results.json").read_text())
    assert [each["kind"] for each in results["stages"]] == ["sft", "rl", "eval"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_registry_uses_what_is_new_and_stand_ins_for_the_rest(kind):
    registry = tomllib.loads(plugin_files(plugin_names("my-maze"), [kind])["registry.toml"])
    run, agent = registry["runs"]["demo"], registry["agents"]["main"]
    used = {
        "environment": run["env"],
        "algorithm": run["algorithm"],
        "agent": agent,
        "context-strategy": agent["context"][0],
        "model": run["model"],
        "backend": run["backends"]["execution"],
    }
    own = {each for each, table in used.items() if isinstance(table, dict) and table["use"] == "my-maze/my-maze"}
    assert own == {kind}


def test_the_parts_are_those_of_the_specs():
    assert KIND_PARTS.keys() == KINDS.keys()
    assert {kind: part.spec for kind, part in KIND_PARTS.items()} == {
        kind: spec.__name__ for kind, spec in KINDS.items()
    }
    assert any(argument.startswith("roles=") for argument in KIND_PARTS["backend"].arguments)
    assert issubclass(KINDS["backend"], BackendSpec)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Maze", "lower-case words"),
        ("my_maze", "lower-case words"),
        ("../maze", "lower-case words"),
        ("", "lower-case words"),
        ("-maze", "lower-case words"),
        ("core", "keeps the names"),
        ("tumbler-maze", "leave the prefix out: tumbler new-plugin maze"),
    ],
)
def test_a_bad_name_is_refused(name, said):
    with pytest.raises(PluginError, match=said):
        plugin_names(name)


def test_a_name_that_is_taken_is_refused():
    with pytest.raises(PluginError, match=r"tumbler 0\.\S+ has a plugin 'react' already"):
        free_names("react")
    with pytest.raises(PluginError, match="a package 'tumbler_envs' is installed already"):
        free_names("envs")


def test_an_existing_folder_is_left_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tumbler-maze").mkdir()
    assert main(["new-plugin", "maze"]) == 1
    assert "tumbler-maze exists already; nothing was written" in capsys.readouterr().err
    assert list((tmp_path / "tumbler-maze").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_an_error_that_names_it(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(PluginError, match=r"file/maze could not be written"):
        write_plugin(plugin_names("maze"), ["agent"], tmp_path / "file" / "maze")
