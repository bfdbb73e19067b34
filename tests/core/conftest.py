"""Real distributions in a folder of the test's own: metadata, entry points and modules."""

import importlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import EntryPoint, distributions
from pathlib import Path
from textwrap import dedent

import pytest

from tumbler.plugins import PluginHost

AGENT_MODULE = """
    from tumbler.config import Settings


    class WalkerSettings(Settings):
        stride: int = 1


    class Walker:
        def __init__(self, settings):
            self.settings = settings

        async def run(self, episode):
            raise NotImplementedError
"""

AGENT_PLUGIN = """
    from tumbler import hookimpl
    from tumbler.specs import AgentSpec


    def _load():
        from {package}.agent import Walker

        return Walker


    def _config():
        from {package}.agent import WalkerSettings

        return WalkerSettings


    @hookimpl
    def tumbler_agents():
        return [AgentSpec(name="{component}", summary="Walk.", load=_load, config=_config, extra={extra!r})]
"""


class Site:
    """A folder like site-packages, with distributions that a test adds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self,
        distribution: str,
        version: str,
        plugins: Mapping[str, str],
        *,
        files: Mapping[str, str] | None = None,
        group: str = "tumbler.v1",
        extras: Sequence[str] = (),
    ) -> Path:
        """Install a distribution with entry points `plugins` (name → value) and modules (path → source)."""
        info = self.folder / f"{distribution.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        lines = ["Metadata-Version: 2.4", f"Name: {distribution}", f"Version: {version}"]
        lines += [f"Provides-Extra: {extra}" for extra in extras]
        (info / "METADATA").write_text("\n".join(lines) + "\n\nAbout it.\n", encoding="utf-8")
        listed = "\n".join(f"{name} = {value}" for name, value in plugins.items())
        (info / "entry_points.txt").write_text(f"[{group}]\n{listed}\n", encoding="utf-8")
        for path, source in (files or {}).items():
            self.write(path, source)
        importlib.invalidate_caches()
        return info

    def add_agent(
        self,
        distribution: str,
        version: str = "1.0",
        *,
        plugin: str,
        package: str | None = None,
        component: str = "walker",
        extra: str | None = None,
        agent: str = AGENT_MODULE,
    ) -> None:
        """Install a distribution with one plugin that offers one working agent."""
        package = package or plugin.replace("-", "_") + "_plugin"
        self.add(
            distribution,
            version,
            {plugin: f"{package}.plugin"},
            files={
                f"{package}/__init__.py": "",
                f"{package}/agent.py": agent,
                f"{package}/plugin.py": AGENT_PLUGIN.format(package=package, component=component, extra=extra),
            },
        )

    def write(self, path: str, source: str) -> None:
        """Write a module."""
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(dedent(source), encoding="utf-8")

    def points(self) -> list[EntryPoint]:
        """Return the entry points of this folder's distributions, and no others."""
        return [point for each in distributions(path=[str(self.folder)]) for point in each.entry_points]

    def load(self, **lists: list[str]) -> PluginHost:
        """Load the plugins of this folder, and no others."""
        return PluginHost.load(entry_points=self.points(), **lists)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """An empty site folder on `sys.path`; its modules are forgotten after the test."""
    monkeypatch.delenv("TUMBLER_STRICT_PLUGINS", raising=False)
    folder = tmp_path / "site"
    folder.mkdir()
    before = set(sys.modules)
    monkeypatch.syspath_prepend(str(folder))
    yield Site(folder)
    for name in set(sys.modules) - before:
        origin = getattr(sys.modules[name], "__file__", None) or ""
        if origin.startswith(str(folder)):
            del sys.modules[name]


HOOKS = """
    from tumbler import hookimpl
"""


@pytest.fixture
def one_plugin(site: Site):
    """Install one third-party plugin `odd` (distribution `odd-dist` 2.0) with the given source."""

    def install(source: str) -> PluginHost:
        site.add("odd-dist", "2.0", {"odd": "odd_plugin"}, files={"odd_plugin.py": HOOKS + source})
        return site.load()

    return install
