"""The three observers as plugins: light to import, and their hooks are the core's."""

import subprocess
import sys
from pathlib import Path

import pluggy
import pytest

from tumbler import observers
from tumbler.markers import PROJECT
from tumbler.observers import RunInfo
from tumbler_backends.observers.jsonl import plugin as jsonl
from tumbler_backends.observers.progress import plugin as progress
from tumbler_backends.observers.report import plugin as report


@pytest.fixture
def manager() -> pluggy.PluginManager:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(observers)
    for name, module in (("jsonl", jsonl), ("progress", progress), ("report", report)):
        manager.register(module, name)
    return manager


def test_every_hook_is_one_that_the_core_calls(manager: pluggy.PluginManager) -> None:
    manager.check_pending()
    called = {name for each in manager.get_plugins() for name in vars(each) if name.startswith("tumbler_")}
    assert called >= {"tumbler_run_finished", "tumbler_step_finished", "tumbler_report"}


def test_the_report_is_written_on_demand(manager: pluggy.PluginManager, finished_run: RunInfo) -> None:
    path = finished_run.folder / "report.html"
    assert manager.hook.tumbler_report(folder=finished_run.folder) == [path]
    assert path.is_file()


def test_importing_them_imports_nothing_heavy() -> None:
    names = [f"tumbler_backends.observers.{name}.plugin" for name in ("jsonl", "progress", "report")]
    code = f"import sys, {', '.join(names)}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"rich", "torch", "pydantic", "numpy"}.isdisjoint(loaded)


def test_the_page_s_style_and_script_lie_beside_the_code() -> None:
    folder = Path(report.__file__).parent
    assert (folder / "report.css").is_file() and (folder / "report.js").is_file()
