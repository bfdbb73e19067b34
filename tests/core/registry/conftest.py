"""A site folder with three installed distributions, and a registry file that uses them."""

from importlib.metadata import PathDistribution
from pathlib import Path

import pytest

from tumbler.plugins import PluginHost
from tumbler.registry import check_registry, load_registry, read_registry, resolve_run

SITE = Path(__file__).parent / "site"

DISTRIBUTIONS = {
    "tumbler": ("9.9", {"bench": "registry_shop.own"}, ["tumbler-nowhere>=1; extra == 'absent'"]),
    "tumbler-shop": ("0.4.1", {"shop": "registry_shop.third_party"}, []),
    "tumbler-broken": ("0.3", {"broken": "registry_shop.broken"}, []),
}

VALID = """
schema = 1

[envs.path]
use = "trail"
size = 7

[envs.maze]
use = "shop/maze"
size = 3

[agents.coder]
use = "react"
context = ["none", { use = "summary", threshold = 0.5 }]

[algorithms.mine]
use = "ipa"
gamma = 0.9
clip = 0.1

[backends.cloud]
use = "shop/cloud"
api_key = { env = "SHOP_KEY" }

[runs.smoke]
env = "path"
agent = "coder"
algorithm = "mine"
model = "folder"
backends = { sandbox = "cloud", inference = "engine", training = "optimizer", execution = "local" }
stages = ["sft", "eval", "rl", "eval"]
seed = 3
limits = { turns = 8 }

[runs.long]
extends = "smoke"
description = "Longer."
algorithm = { use = "ipa", gamma = 0.99 }
stages = ["rl", "eval"]
limits = { seconds = 60 }

[runs.long.rl]
steps = 100

[runs.long.eval]
envs = ["path", "maze"]
"""


@pytest.fixture(autouse=True)
def lenient(monkeypatch):
    """Let a host live with the broken plugin in the site folder, also where CI wants every plugin whole."""
    monkeypatch.delenv("TUMBLER_STRICT_PLUGINS", raising=False)


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """A folder for `sys.path` in which the three distributions are installed."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "registry_shop").symlink_to(SITE / "registry_shop", target_is_directory=True)
    for name, (version, plugins, requirements) in DISTRIBUTIONS.items():
        metadata = folder / f"{name.replace('-', '_')}-{version}.dist-info"
        metadata.mkdir()
        requires = "".join(f"Requires-Dist: {each}\n" for each in requirements)
        extras = "Provides-Extra: absent\n" if requirements else ""
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{extras}{requires}"
        )
        entries = "".join(f"{plugin} = {module}\n" for plugin, module in plugins.items())
        (metadata / "entry_points.txt").write_text(f"[tumbler.v1]\n{entries}")
    return folder


@pytest.fixture
def new_host(site, monkeypatch):
    """Make a host of what is installed in the site folder."""
    monkeypatch.syspath_prepend(str(site))

    def load(**lists):
        points = [
            point for metadata in sorted(site.glob("*.dist-info")) for point in PathDistribution(metadata).entry_points
        ]
        return PluginHost.load(entry_points=points, **lists)

    return load


@pytest.fixture
def host(new_host):
    return new_host()


@pytest.fixture
def write(tmp_path):
    """Write a registry file and return its path."""

    def written(text):
        path = tmp_path / "registry.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return written


@pytest.fixture
def problems_of(write, host):
    """Return the problems of a registry's text: dotted path → the whole lines."""

    def problems(text, *overrides):
        found = {}
        for problem in check_registry(read_registry(write(text), overrides), host):
            if problem.severity == "error":
                found[problem.path] = f"{found.get(problem.path, '')}{problem}\n"
        return {path: lines.removesuffix("\n") for path, lines in found.items()}

    return problems


@pytest.fixture
def resolve(write, host):
    """Resolve a run of the valid registry, or of another text."""

    def resolved(name, *overrides, text=VALID):
        return resolve_run(load_registry(write(text), overrides), name, host)

    return resolved


@pytest.fixture
def valid():
    """The text of a registry without problems."""
    return VALID
