"""The strategies by which the policy writes, branches and asks for compaction keep the contract of strategies."""

import pytest

from tumbler.contracts.context import ContextStrategy
from tumbler.testing import ContextStrategySuite
from tumbler_agents.context.memory_files import MemoryFiles, MemoryFilesSettings
from tumbler_agents.context.model_decides import ModelDecides, ModelDecidesSettings
from tumbler_agents.context.notes import Notes, NotesSettings
from tumbler_agents.context.subagent import Subagent, SubagentSettings
from tumbler_agents.context.todo import Todo, TodoSettings


class TestTodo(ContextStrategySuite):
    @pytest.fixture
    def strategy(self) -> ContextStrategy:
        return Todo(TodoSettings())


class TestNotes(ContextStrategySuite):
    @pytest.fixture
    def strategy(self) -> ContextStrategy:
        return Notes(NotesSettings())


class TestMemoryFiles(ContextStrategySuite):
    @pytest.fixture
    def strategy(self, tmp_path) -> ContextStrategy:
        (tmp_path / "AGENTS.md").write_text("Use tabs.")
        return MemoryFiles(MemoryFilesSettings(folder=tmp_path))


class TestSubagent(ContextStrategySuite):
    @pytest.fixture
    def strategy(self) -> ContextStrategy:
        return Subagent(SubagentSettings())


class TestModelDecides(ContextStrategySuite):
    @pytest.fixture
    def strategy(self) -> ContextStrategy:
        return ModelDecides(ModelDecidesSettings())
