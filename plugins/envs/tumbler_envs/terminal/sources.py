"""Chooses where the tasks come from."""

from tumbler_envs.terminal.folder.source import FolderTasks
from tumbler_envs.terminal.generated.source import GeneratedTasks
from tumbler_envs.terminal.settings import TerminalSettings
from tumbler_envs.terminal.task import TaskSource

__all__ = ["open_source"]


def open_source(settings: TerminalSettings) -> TaskSource:
    """Return the folder's tasks, or those drawn from the seed where the settings name no folder."""
    return GeneratedTasks(settings) if settings.folder is None else FolderTasks(settings.folder, settings)
