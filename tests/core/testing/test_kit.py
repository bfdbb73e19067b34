"""The rest of the kit: known failures, fixtures, fakes, and what importing it costs."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest

import tumbler.testing
from tumbler.contracts.sandbox import NetworkPolicy, Sandbox, SandboxBackend, SandboxSpec, Session
from tumbler.contracts.training import TrainingBackend
from tumbler.errors import CapabilityError, ComponentNotFoundError, ExecFailed, SandboxDied, SessionEnded
from tumbler.registry import load_registry
from tumbler.testing import (
    ContractSuite,
    CountingSettings,
    CountingTrainer,
    MemorySandboxBackend,
    sample_trajectory,
)
from tumbler.trajectory import verify_trajectory


class Pair(ContractSuite):
    def test_two_is_even(self):
        assert self.number() % 2 == 0

    def test_two_is_positive(self):
        assert self.number() > 0

    def number(self):
        return 2


class TestAKnownFailure(Pair):
    """Runs as an expected failure: it would fail this run if it passed."""

    known_failures: ClassVar = {"test_two_is_even": "three is odd"}

    def number(self):
        return 3


class TestTheBaseKeepsItsOwnTests(Pair):
    """The mark above is not on the base class."""


class Slow(ContractSuite):
    async def test_two_is_even(self):
        assert self.number % 2 == 0

    number = 2


class TestAKnownFailureOfACoroutine(Slow):
    known_failures: ClassVar = {"test_two_is_even": "three is odd"}
    number = 3


def marks(suite, name):
    return list(getattr(getattr(suite, name), "pytestmark", []))


def test_a_known_failure_is_marked_with_its_reason_and_must_go_on_failing():
    (mark,) = marks(TestAKnownFailure, "test_two_is_even")
    assert (mark.name, mark.kwargs) == ("xfail", {"strict": True, "reason": "three is odd"})
    assert marks(TestAKnownFailure, "test_two_is_positive") == marks(Pair, "test_two_is_even") == []


@pytest.mark.parametrize(
    ("known", "said"),
    [
        ({"test_three": "why"}, "names 'test_three', which is no test; the tests: test_two"),
        ({"number": "why"}, "names 'number', which is no test"),
        ({"test_two_is_even": " "}, "must say why"),
    ],
)
def test_a_known_failure_needs_a_test_and_a_reason(known, said):
    with pytest.raises(TypeError, match=said):
        type("Wrong", (Pair,), {"known_failures": known})


def test_the_isolated_host_has_first_party_plugins_alone(tumbler_host):
    host = tumbler_host()
    assert host.plugins and all(info.first_party for info in host.plugins)


def test_the_isolated_host_takes_what_the_test_names(site, tumbler_host):
    site.add_agent("tumbler-walking", plugin="walking")
    site.add_agent("tumbler-running", plugin="running")
    assert {info.name for info in tumbler_host("walking").plugins if not info.first_party} == {"walking"}


def test_the_isolated_host_refuses_what_is_not_installed(tumbler_host):
    with pytest.raises(ComponentNotFoundError, match="no installed distribution has the plugin 'no-such'"):
        tumbler_host("no-such")


def test_a_registry_file_is_written(registry_file):
    path = registry_file("""
        schema = 1

        [agents.mine]
        use = "react"
    """)
    assert path.name == "registry.toml"
    assert list(load_registry(path).tables.agents) == ["mine"]


def test_every_public_name_is_there():
    assert sorted(tumbler.testing._MODULES) == sorted(tumbler.testing.__all__) == dir(tumbler.testing)
    for name in tumbler.testing.__all__:
        assert getattr(tumbler.testing, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        tumbler.testing.Nothing  # noqa: B018


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout))


def test_only_the_suites_need_pytest():
    fakes = [name for name, module in tumbler.testing._MODULES.items() if not module.endswith("suite")]
    assert "pytest" not in modules_after(f"from tumbler.testing import {', '.join(fakes)}")
    assert {"pytest", "pydantic"}.isdisjoint(modules_after("import tumbler.testing"))


def test_the_pytest_plugin_imports_nothing_of_tumbler_at_module_level():
    source = Path(tumbler.testing.__file__).with_name("pytest_plugin.py").read_text(encoding="utf-8")
    imported = [
        node.module if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.parse(source).body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    ]
    assert imported and not any(name.startswith("tumbler") for name in imported)


@pytest.mark.parametrize(
    "fields", [{}, {"reward": None}, {"turns": 0}, {"replayed": 2}, {"expert": True}, {"reward": 0.0, "turns": 9}]
)
def test_a_sample_keeps_the_rules_of_the_record(fields):
    verify_trajectory(sample_trajectory(**fields))


def test_the_counting_trainer_keeps_its_protocol():
    assert isinstance(CountingTrainer(CountingSettings()), TrainingBackend)


async def test_the_memory_sandbox_keeps_files_and_runs_its_script():
    backend = MemorySandboxBackend({"double": lambda words, given, place: (0, given * 2)})
    box = await backend.create(SandboxSpec(workdir="/w", files={"/w/a": b"1"}))
    session = await box.session()
    assert isinstance(backend, SandboxBackend) and isinstance(box, Sandbox) and isinstance(session, Session)
    await box.write("b/c", b"22")
    assert await box.read("/w/b/c") == b"22"
    assert (await box.exec("ls")).stdout == b"a\nb\n"
    assert (await box.exec(["cat", "a", "b/c"])).stdout == b"122"
    assert (await box.exec("double", input=b"x")).stdout == b"xx"
    assert (await box.exec("nothing")).exit_code == 127
    await session.run("cd b")
    assert (await session.run("pwd")).stdout == b"/w/b\n"
    assert (await session.run("cat c", max_output=1)).truncated
    with pytest.raises(ExecFailed):
        await box.exec("false", check=True)
    with pytest.raises(FileNotFoundError):
        await box.read("nothing")
    with pytest.raises(SessionEnded):
        await session.run("exit")


async def test_a_deleted_memory_sandbox_is_dead():
    backend = MemorySandboxBackend()
    box = await backend.create(SandboxSpec())
    await backend.close()
    assert not await box.alive()
    with pytest.raises(SandboxDied):
        await box.exec("true")


async def test_the_memory_sandbox_refuses_what_it_cannot_do():
    with pytest.raises(CapabilityError):
        await MemorySandboxBackend().create(SandboxSpec(network=NetworkPolicy(mode="public")))
