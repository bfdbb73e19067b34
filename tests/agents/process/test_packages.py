"""Programs are installed once, whole or not at all, and found again."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tumbler.contracts.sandbox import SandboxSpec
from tumbler.errors import PluginError
from tumbler_agents.process.agent import ProcessAgent
from tumbler_agents.process.packages.cache import PackageCache, default_cache
from tumbler_agents.process.packages.installing import key_of
from tumbler_agents.process.packages.settings import PackageSettings
from tumbler_agents.process.settings import ProcessSettings


def test_many_that_ask_at_once_wait_for_one_installation(tmp_path):
    built = []
    begin = threading.Barrier(8)

    def build(folder):
        built.append(folder)
        (folder / "program").write_text("done")

    def ask(_):
        begin.wait(timeout=30)
        return PackageCache(tmp_path).provide("agent", ["1"], build)

    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(ask, range(8)))
    assert len(built) == 1
    (folder,) = folders
    assert (folder / "program").read_text() == "done"


def test_another_version_is_another_folder(tmp_path):
    cache = PackageCache(tmp_path)
    folders = {cache.provide("agent", [version], lambda folder: None) for version in ("1", "2", "1")}
    assert len(folders) == 2


def test_an_installation_that_fails_leaves_nothing_and_can_be_tried_again(tmp_path):
    def fail(folder):
        (folder / "half").write_text("")
        raise PluginError("no network")

    cache = PackageCache(tmp_path)
    with pytest.raises(PluginError, match="no network"):
        cache.provide("agent", ["1"], fail)
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []
    assert list(cache.provide("agent", ["1"], lambda folder: None).iterdir()) == []


def test_the_cache_lies_where_the_user_keeps_caches(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "tumbler" / "agents"


def test_the_order_of_packages_does_not_matter_and_all_else_does():
    one = PackageSettings(pip=("a==1", "b==2"))
    assert key_of(one) == key_of(PackageSettings(pip=("b==2", "a==1")))
    others = [{"pip": ("a==1",)}, {"node": "22.20.0"}, {"npm": ("c@1",)}, {"python_version": "3.12"}]
    assert len({tuple(key_of(one.model_copy(update=other))) for other in [{}, *others]}) == 5


async def test_an_installer_that_fails_says_which_command_and_why(tmp_path):
    packages = PackageSettings(pip=("tumbler-has-no-such-package==0.0.1",), cache=tmp_path)
    agent = ProcessAgent(ProcessSettings(launch="true", packages=packages))
    with pytest.raises(PluginError, match=r"pip .*tumbler-has-no-such-package==0\.0\.1 exited with 1"):
        await agent.prepare()
    assert [path for path in tmp_path.iterdir() if path.is_dir()] == []


async def test_a_python_that_is_not_there_is_named(tmp_path):
    packages = PackageSettings(pip=("six==1.17.0",), cache=tmp_path, python="/no/such/python")
    agent = ProcessAgent(ProcessSettings(launch="true", packages=packages))
    with pytest.raises(PluginError, match="/no/such/python"):
        await agent.prepare()


async def test_what_is_in_the_image_is_neither_installed_nor_mounted(tmp_path):
    packages = PackageSettings(pip=("six==1.17.0",), cache=tmp_path, in_image=True)
    agent = ProcessAgent(ProcessSettings(launch="true", packages=packages))
    assert (await agent.adapt_sandbox(SandboxSpec())).mounts == ()
    assert list(tmp_path.iterdir()) == []


async def test_an_installed_package_is_seen_in_the_sandbox_and_cannot_be_changed(on, tmp_path):
    packages = PackageSettings(pip=("six==1.17.0",), cache=tmp_path / "programs")
    agent = ProcessAgent(ProcessSettings(launch="true", packages=packages))
    spec = await agent.adapt_sandbox(SandboxSpec())
    sandbox = await on.backend.create(spec)
    program = "import sys; sys.path.insert(0, '/opt/tumbler-agent/python'); import six; print(six.__version__)"
    assert (await sandbox.exec(["python3", "-c", program], check=True)).stdout == b"1.17.0\n"
    assert (await sandbox.exec(["touch", "/opt/tumbler-agent/python/six.py"])).exit_code != 0
    assert (await agent.adapt_sandbox(SandboxSpec())).mounts == spec.mounts
