"""Hands the tests of `terminal` folders of tasks, sandboxes, and episodes under way."""

from contextlib import asynccontextmanager

import pytest

from tumbler.contracts.values import ToolCall
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings
from tumbler_envs.terminal.environment import TerminalEnvironment
from tumbler_envs.terminal.settings import TerminalSettings

TEST = """#!/bin/bash
if [ "$(cat greeting)" = hello ] && [ -f /tests/data/marker ]; then
    echo 1 > /logs/verifier/reward.txt
else
    echo 0 > /logs/verifier/reward.txt
fi
"""


class TaskFolders:
    """Writes tasks: each call one folder, with a greeting that is to be written."""

    def __init__(self, root):
        self.root = root

    def __call__(self, name="greet", *, configuration="", test=TEST, instruction="Write hello to greeting.", **files):
        """`files` are further ones: `environment={"x": "..."}`, and so on."""
        files = {
            "environment": {"readme": "Nothing here.\n"},
            "tests": {"test.sh": test, "data/marker": ""},
            "solution": {"solve.sh": "#!/bin/bash\necho hello > greeting\n"},
            **files,
        }
        folder = self.root / name
        folder.mkdir(parents=True)
        (folder / "task.toml").write_text(configuration)
        (folder / "instruction.md").write_text(f"{instruction}\n")
        for part, tree in files.items():
            for path, text in tree.items():
                (folder / part / path).parent.mkdir(parents=True, exist_ok=True)
                (folder / part / path).write_text(text)
        return folder


@pytest.fixture
def task_folder(tmp_path):
    return TaskFolders(tmp_path / "tasks")


@pytest.fixture
async def backend(tmp_path):
    backend = BubblewrapBackend(BubblewrapSettings(root=tmp_path / "sandboxes", cache=tmp_path / "cache", grace=0.2))
    await backend.start()
    yield backend
    await backend.close()


class TerminalEpisode:
    """An episode under way."""

    def __init__(self, settings, environment, task, sandbox):
        self.settings, self.environment, self.task, self.sandbox = settings, environment, task, sandbox

    async def run(self, command):
        return await self.environment.step(ToolCall(name="shell", arguments={"command": command}))

    async def call(self, name, **arguments):
        return await self.environment.step(ToolCall(name=name, arguments=arguments))

    async def verify(self):
        return await self.environment.verify()

    async def follow_expert(self):
        """Return what the expert was answered."""
        expert, results = self.environment.expert(self.task, seed=0), []
        action = expert.act("")
        while action is not None:
            results.append(await self.environment.step(action.call))
            action = expert.act(results[-1].observation)
        return results


@pytest.fixture
def begin(backend):
    """Begins an episode of the first task that the settings give, or of the task given."""

    @asynccontextmanager
    async def start(settings, *, task=None, split="train"):
        environment = TerminalEnvironment(settings)
        task = task or (await environment.tasks(split, count=1, seed=0))[0]
        sandbox = await backend.create(environment.sandbox_spec(task))
        try:
            await environment.reset(task, seed=0, sandbox=sandbox)
            yield TerminalEpisode(settings, environment, task, sandbox)
        finally:
            await environment.close()
            await sandbox.delete()

    return start


@pytest.fixture
def begin_folder(begin, task_folder):
    """Begins an episode of one task in a folder: its settings, then the folder's own words."""

    def start(settings=None, **words):
        task_folder(**{"configuration": '[metadata]\nsplit = "train"\n', **words})
        return begin(TerminalSettings(folder=task_folder.root, **(settings or {})))

    return start
