"""The pages for users: their registries have no mistake, and their commands exist."""

import re
import tomllib
from pathlib import Path

import pytest

from tumbler.cli.main import main
from tumbler.plugins import PluginHost
from tumbler.registry import check_registry, read_registry

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list:
    """Return one parameter for each block of the language."""
    return [
        pytest.param(source, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, source in enumerate(re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL))
    ]


@pytest.fixture(scope="module")
def host():
    return PluginHost.load(allow=["tumbler"])


@pytest.mark.parametrize("source", blocks("toml"))
def test_a_registry_has_no_mistake(source, host, tmp_path):
    if "schema" not in tomllib.loads(source):
        assert "entry-points" in source
        return
    (tmp_path / "registry.toml").write_text(source)
    assert list(check_registry(read_registry(tmp_path / "registry.toml"), host)) == []


@pytest.mark.parametrize("source", blocks("python"))
def test_python_compiles(source):
    compile(source, "page", "exec")


@pytest.mark.parametrize("source", blocks("sh"))
def test_a_command_exists(source, capsys):
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in source.replace("\\\n", " ").splitlines():
        program, command, *more = re.sub(r"^(\w+=\S+ )+", "", line).split()
        if program == "make":
            assert command in targets
        elif program == "sh" or program.endswith("/python"):
            assert (ROOT / command).is_file()
        else:
            assert program == "tumbler"
            with pytest.raises(SystemExit, match="0"):
                main([command, *(more[:1] if command == "sandbox" else ()), "--help"])
            options = set(re.findall(r"--[a-z]+", line.partition("#")[0]))
            assert options <= set(re.findall(r"--[a-z]+", capsys.readouterr().out))
