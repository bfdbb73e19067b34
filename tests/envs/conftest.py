"""Hands the tests of environments the sandboxes that they run in."""

import importlib.util
import itertools
import sys
from contextlib import asynccontextmanager
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tumbler.contracts.values import ToolCall
from tumbler_envs.trail.environment import TrailEnvironment
from tumbler_envs.trail.settings import TrailSettings


def folder_sandbox_module():
    name = "tumbler_test_folder_sandbox"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, Path(__file__).with_name("folder_sandbox.py"))
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]


@asynccontextmanager
async def folders(root):
    """Sandboxes that are folders beside the test."""
    numbers = itertools.count()

    @asynccontextmanager
    async def open_sandbox(spec):
        sandbox = folder_sandbox_module().FolderSandbox(root / str(next(numbers)), spec)
        try:
            yield sandbox
        finally:
            await sandbox.delete()

    yield open_sandbox


@asynccontextmanager
async def bubblewrap():
    """Sandboxes of the backend `bubblewrap`."""
    (entry,) = entry_points(group="tumbler.v1", name="bubblewrap")
    (spec,) = entry.load().tumbler_backends()
    backend = spec.load()(spec.config()())
    await backend.start()

    @asynccontextmanager
    async def open_sandbox(spec):
        sandbox = await backend.create(spec)
        try:
            yield sandbox
        finally:
            await sandbox.delete()

    try:
        yield open_sandbox
    finally:
        await backend.close()


@pytest.fixture
async def open_folder(tmp_path):
    """Opens a sandbox that is a folder, whose calls can be looked at."""
    async with folders(tmp_path) as open_sandbox:
        yield open_sandbox


@pytest.fixture(params=["folder", "bubblewrap"])
async def open_sandbox(request, tmp_path):
    """Opens a sandbox in which bash really runs."""
    async with folders(tmp_path) if request.param == "folder" else bubblewrap() as open_sandbox:
        yield open_sandbox


@pytest.fixture
def few(request):
    """Takes a number of episodes down where each has a sandbox to start."""
    divisor = 5 if request.node.callspec.params["open_sandbox"] == "bubblewrap" else 1
    return lambda count: count // divisor


class Episode:
    """An episode under way: acts by commands, and plays the expert to the end."""

    def __init__(self, environment, task, sandbox):
        self.environment, self.task, self.sandbox = environment, task, sandbox

    async def run(self, command):
        return await self.environment.step(Episode.call(command))

    async def play(self, *, seed=0):
        """Return each (action, result) of the expert."""
        expert = self.environment.expert(self.task, seed=seed)
        action, turns = expert.act(""), []
        while action is not None:
            result = await self.environment.step(action.call)
            turns.append((action, result))
            action = expert.act(result.observation)
        return turns

    @staticmethod
    def call(command):
        return ToolCall(name="shell", arguments={"command": command})


@pytest.fixture
def episode():
    """Starts an episode: in the twin, or in a sandbox if told how to open one."""

    @asynccontextmanager
    async def start(task, settings=None, *, open_sandbox=None):
        settings = settings or TrailSettings()
        settings = settings.model_copy(update={"shell": "sandbox" if open_sandbox else "twin"})
        environment = TrailEnvironment(settings)
        if open_sandbox is None:
            await environment.reset(task, seed=0, sandbox=None)
            yield Episode(environment, task, None)
        else:
            async with open_sandbox(environment.sandbox_spec(task)) as sandbox:
                await environment.reset(task, seed=0, sandbox=sandbox)
                yield Episode(environment, task, sandbox)
        await environment.close()

    return start
