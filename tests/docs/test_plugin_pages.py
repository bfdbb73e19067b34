"""The pages for plugin authors: every block is valid, and each hook is there with its exact arguments."""

import ast
import inspect
import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest

from tumbler import hookspecs, observers
from tumbler.markers import PROJECT
from tumbler.observers import RunInfo, StageInfo, StepMetrics
from tumbler.plugins.offers import REGISTRATION_HOOKS
from tumbler.registry.model import RegistryFile
from tumbler.scaffolding.names import plugin_names
from tumbler.scaffolding.writing import plugin_files
from tumbler.specs import KINDS

PAGES = Path(__file__).parents[2] / "docs/plugins"
PAGE_OF = {
    "tumbler_agents": "agents.md",
    "tumbler_algorithms": "algorithms.md",
    "tumbler_backends": "backends.md",
    "tumbler_context_strategies": "context-strategies.md",
    "tumbler_environments": "environments.md",
    "tumbler_models": "models.md",
}
SPECS = {
    name: function
    for module in (hookspecs, observers)
    for name, function in vars(module).items()
    if hasattr(function, f"{PROJECT}_spec")
}


def read(page: str) -> str:
    return (PAGES / page).read_text(encoding="utf-8")


def blocks(language: str) -> list:
    """Return one parameter (page, source) for each block of the language."""
    return [
        pytest.param(page.name, source, id=f"{page.stem}-{number}")
        for page in sorted(PAGES.glob("*.md"))
        for number, source in enumerate(re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL))
    ]


def labelled(page: str) -> dict[str, str]:
    """Return path → source of the page's files."""
    return dict(re.findall(r"^`(\S+\.py)`\n\n```python\n(.*?)```", read(page), re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize(("page", "source"), blocks("python"))
def test_python_compiles(page, source):
    compile(source, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize(("page", "source"), blocks("toml"))
def test_toml_is_valid_and_a_registry_keeps_its_form(page, source):
    table = tomllib.loads(source)
    if "schema" in table:
        RegistryFile.model_validate(table)


@pytest.mark.parametrize("hook", SPECS)
def test_a_hook_is_shown_with_its_exact_arguments(hook):
    page = PAGE_OF[hook] if hook in REGISTRATION_HOOKS else "observers.md"
    shown = [
        node
        for source in re.findall(r"```python\n(.*?)```", read(page), re.DOTALL)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == hook
    ]
    assert shown, f"{page} does not show {hook}"
    specified = ast.parse(inspect.getsource(SPECS[hook])).body[0]
    assert isinstance(specified, ast.FunctionDef)
    for function in shown:
        assert ast.unparse(function.args) == ast.unparse(specified.args)
    assert ast.unparse(specified.returns) in [ast.unparse(function.returns) for function in shown]


@pytest.mark.parametrize("hook", REGISTRATION_HOOKS)
def test_every_field_of_a_spec_is_described(hook):
    page = read(PAGE_OF[hook])
    for field in fields(KINDS[REGISTRATION_HOOKS[hook]]):
        assert f"| `{field.name}` |" in page, f"{PAGE_OF[hook]} does not describe the field {field.name}"


def test_every_observer_hook_is_listed_with_its_arguments():
    rows = dict(re.findall(r"^\| `(tumbler_\w+)` \|.*\| (.*) \|$", read("observers.md"), re.MULTILINE))
    expected = {
        name: ", ".join(f"`{argument}`" for argument in inspect.signature(SPECS[name]).parameters)
        for name in SPECS
        if name not in REGISTRATION_HOOKS
    }
    assert rows == expected


@pytest.mark.parametrize("described", [RunInfo, StageInfo, StepMetrics])
def test_every_field_that_an_observer_is_given_is_described(described):
    table = read("observers.md").split(f"| field of `{described.__name__}` |")[1].split("\n\n")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [field.name for field in fields(described)]


@pytest.mark.parametrize("hook", REGISTRATION_HOOKS)
def test_an_example_is_what_new_plugin_writes(hook):
    """Which other tests install, run and type-check."""
    page = read(PAGE_OF[hook])
    name, kind = re.findall(r"`tumbler new-plugin (\S+) --kind (\S+)`", page)[0]
    assert kind == REGISTRATION_HOOKS[hook]
    written = plugin_files(plugin_names(name), [kind])
    shown = labelled(PAGE_OF[hook])
    assert len(shown) == 3
    for path, source in shown.items():
        assert source == written[path], f"{PAGE_OF[hook]} shows another {path} than new-plugin writes"


def test_the_guide_links_every_page_and_names_every_hook():
    guide = read("index.md")
    for page in PAGES.glob("*.md"):
        assert page.name == "index.md" or f"]({page.name})" in guide
    assert set(re.findall(r"`(tumbler_\w+)`", guide)) >= REGISTRATION_HOOKS.keys()


def test_every_link_leads_somewhere():
    for page in PAGES.glob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
            assert (PAGES / target).exists(), f"{page.name} links {target}"


def pytest_in(folder: Path) -> str:
    """Run the tests in the folder, with its `src` and metadata on the path."""
    path = os.pathsep.join([str(folder / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
    options = ["-q", "-p", "no:cacheprovider", "--import-mode=importlib", "-W", "error"]
    options += ["-o", "asyncio_default_fixture_loop_scope=function", f"--rootdir={folder}"]
    finished = subprocess.run(
        [sys.executable, "-m", "pytest", *options, "tests"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def test_the_example_of_observers_works(tmp_path):
    for path, source in labelled("observers.md").items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(source)
    info = tmp_path / "src/tumbler_diary-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.4\nName: tumbler-diary\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tumbler.v1]\ndiary = tumbler_diary.plugin\n")
    assert "1 passed" in pytest_in(tmp_path)


def test_the_python_of_the_guide_works(tmp_path):
    sources = re.findall(r"```python\n(.*?)```", read("index.md"), re.DOTALL)
    (tmp_path / "tests").mkdir()
    for number, source in enumerate(sources):
        (tmp_path / f"tests/test_block_{number}.py").write_text(source)
    report = pytest_in(tmp_path)
    assert "1 xfailed" in report and "passed" in report
