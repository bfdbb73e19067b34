"""The tasks of a folder: which there are, which split they belong to, and that they are still what they were."""

from fnmatch import fnmatchcase
from pathlib import Path
from random import Random

from tumbler.contracts.environment import Task
from tumbler.errors import ContractError, RunError
from tumbler.seeding import derive_seed
from tumbler_envs.terminal.folder.loading import CONFIGURATION, LoadedFolder, load_folder
from tumbler_envs.terminal.settings import TerminalSettings
from tumbler_envs.terminal.splits import SPLITS, require_split, split_of
from tumbler_envs.terminal.task import TerminalTask

__all__ = ["FolderTasks"]

_MOST_SHOWN = 10


class FolderTasks:
    """Each sub-folder with a task.toml is one task.

    A task's metadata names its folder and a hash of what is in it: what a run has begun with is what it goes on with.
    """

    def __init__(self, folder: Path, settings: TerminalSettings) -> None:
        """Read nothing yet."""
        self._folder = folder.absolute()
        self._settings = settings
        self._current: tuple[Path, LoadedFolder] | None = None

    def tasks(self, split: str, *, count: int, seed: int) -> list[Task]:
        """Return the split's tasks in an order of the seed's; raise `RunError` that names every task that is wrong."""
        require_split(split)
        tasks, problems = [], []
        for path in self._paths():
            try:
                task = self._task(path)
            except (ValueError, OSError) as error:
                problems.append(f"{path.name} {error}")
            else:
                tasks.append(task)
        if problems:
            shown = "\n  ".join(problems[:_MOST_SHOWN])
            raise RunError(
                f"{len(problems)} tasks of {self._folder} cannot be used:\n  {shown}\nMend them, or leave "
                "them out by the setting include."
            )
        chosen = [task for task in tasks if task.split == split]
        Random(derive_seed("terminal", split, seed)).shuffle(chosen)
        return chosen[:count]

    def load(self, task: Task) -> TerminalTask:
        """Return the task as it lies in its folder; raise `RunError` if that has changed since the task was made."""
        path, digest = task.metadata.get("folder"), task.metadata.get("digest")
        if not isinstance(path, str) or not isinstance(digest, str):
            raise ContractError(
                f"task {task.id!r} is no task of a folder: its metadata does not fit; "
                "give terminal only tasks that its own `tasks` returned, with the same settings"
            )
        if self._current is None or self._current[0] != Path(path):
            try:
                self._current = Path(path), self._load(Path(path))
            except (ValueError, OSError) as error:
                raise RunError(f"task {path} cannot be used: it {error}") from error
        loaded = self._current[1]
        if loaded.digest != digest:
            raise RunError(f"task {path} has changed since the run began; put it back, or begin another run")
        return loaded.task

    def _paths(self) -> list[Path]:
        if (self._folder / CONFIGURATION).is_file():
            return [self._folder]
        if not self._folder.is_dir():
            raise RunError(f"there is no folder {self._folder}; the setting folder of terminal names it")
        found = sorted(path.parent for path in self._folder.glob(f"*/{CONFIGURATION}"))
        paths = [path for path in found if any(fnmatchcase(path.name, each) for each in self._settings.include)]
        if not paths:
            beside = f", and {len(found)} that the setting include leaves out" if found else ""
            raise RunError(f"{self._folder} has no sub-folder with a {CONFIGURATION}{beside}")
        return paths

    def _task(self, path: Path) -> Task:
        loaded = self._load(path)
        return Task(
            id=path.name,
            instruction=loaded.instruction,
            split=self._split(path.name, loaded),
            metadata={"folder": str(path), "digest": loaded.digest},
        )

    def _load(self, path: Path) -> LoadedFolder:
        return load_folder(path, workdir=self._settings.workdir, images=self._settings.images)

    def _split(self, name: str, loaded: LoadedFolder) -> str:
        field = self._settings.split_field
        said = loaded.metadata.get(field)
        if said is None:
            return split_of(name, held_out_share=self._settings.held_out_share)
        if said not in SPLITS:
            raise ValueError(f"{CONFIGURATION} says {field} = {said!r} in [metadata]; it may be {' or '.join(SPLITS)}")
        return str(said)
