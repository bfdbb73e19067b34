"""`terminal` keeps the contract of environments: with tasks from a seed, and with those of a folder."""

import asyncio

import pytest

from tumbler.testing import EnvironmentSuite
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings
from tumbler_envs.terminal.environment import TerminalEnvironment
from tumbler_envs.terminal.settings import GeneratedSettings, TerminalSettings


@pytest.fixture
def sandboxes(tmp_path):
    backend = BubblewrapBackend(BubblewrapSettings(root=tmp_path / "sandboxes", cache=tmp_path / "cache", grace=0.2))
    asyncio.run(backend.start())
    yield backend
    asyncio.run(backend.close())


class TestTerminalWithGeneratedTasks(EnvironmentSuite):
    @pytest.fixture
    def sandboxes(self, sandboxes):
        return sandboxes

    @pytest.fixture
    def make_environment(self):
        settings = TerminalSettings(generate=GeneratedSettings(edits=(2, 2)), tools=("shell", "write_file"))
        return lambda: TerminalEnvironment(settings)


class TestTerminalWithAFolder(EnvironmentSuite):
    @pytest.fixture
    def sandboxes(self, sandboxes):
        return sandboxes

    @pytest.fixture
    def make_environment(self, task_folder):
        for number in range(4):
            for split in ("train", "held-out"):
                task_folder(f"{split}-{number}", configuration=f'[metadata]\nsplit = "{split}"\nnumber = {number}\n')
        settings = TerminalSettings(folder=task_folder.root)
        return lambda: TerminalEnvironment(settings)
