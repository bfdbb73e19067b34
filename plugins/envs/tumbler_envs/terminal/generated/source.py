"""Draws tasks: from settings and a seed to tasks without end; knows no sandbox."""

from collections.abc import Iterator
from itertools import islice
from random import Random

from tumbler.contracts.environment import Task
from tumbler.seeding import derive_seed
from tumbler_envs.terminal.generated.edits import draw_edit
from tumbler_envs.terminal.generated.layout import Edits
from tumbler_envs.terminal.generated.words import FOLDERS, NOTES, STEMS
from tumbler_envs.terminal.settings import EditKind, GeneratedSettings, TerminalSettings
from tumbler_envs.terminal.splits import require_split, split_of
from tumbler_envs.terminal.task import TerminalTask

__all__ = ["GeneratedTasks", "draw_edits"]

_ATTEMPTS = 1000
"""Draws in a row that give no new task of the split, after which the settings are held to have no more."""


class GeneratedTasks:
    """Tasks drawn from a seed; a hash of what can be seen of a task decides its split."""

    def __init__(self, settings: TerminalSettings) -> None:
        """Draw nothing yet."""
        self._settings = settings

    def tasks(self, split: str, *, count: int, seed: int) -> list[Task]:
        """Return `count` different tasks of the split, or nearly all if there are fewer."""
        require_split(split)
        tasks: dict[str, Task] = {}
        for index in range(count):
            candidates = islice(self._candidates(split, seed, index), _ATTEMPTS)
            task = next((task for task in candidates if task and task.id not in tasks), None)
            if task is None:
                break
            tasks[task.id] = task
        return list(tasks.values())

    def load(self, task: Task) -> TerminalTask:
        """Return the task that the metadata describes."""
        return Edits.from_task(task).to_task(task.id, workdir=self._settings.workdir)

    def _candidates(self, split: str, seed: int, index: int) -> Iterator[Task | None]:
        """Yield a task for each draw with this index's own random generator, None for one of the other split."""
        rng = Random(derive_seed("terminal", split, seed, index))
        while True:
            edits = draw_edits(self._settings.generate, rng)
            digest = edits.digest
            if split_of(digest, held_out_share=self._settings.held_out_share) != split:
                yield None
                continue
            yield Task(
                id=f"terminal-{digest[:16]}",
                instruction=edits.instruction,
                split=split,
                metadata=edits.to_metadata(),
            )


def draw_edits(settings: GeneratedSettings, rng: Random) -> Edits:
    """Draw one task."""
    kinds: list[EditKind] = [rng.choice(settings.kinds) for _ in range(rng.randint(*settings.edit_bounds))]
    folders = rng.sample(FOLDERS, len(kinds))
    edits = [draw_edit(kind, folder, rng) for kind, folder in zip(kinds, folders, strict=True)]
    stems = rng.sample(STEMS, settings.distractors)
    aside = {f"{stem}.txt": f"{rng.choice(NOTES)} {rng.randrange(100)}\n" for stem in sorted(stems)}
    return Edits(
        instruction=_instruction([edit.instruction for edit in edits]),
        kinds=tuple(kinds),
        files=aside | {path: text for edit in edits for path, text in edit.before.items()},
        wanted=aside | {path: text for edit in edits for path, text in edit.after.items()},
        commands=tuple(command for edit in edits for command in edit.commands),
    )


def _instruction(asked: list[str]) -> str:
    if len(asked) == 1:
        return f"{asked[0]} Change nothing else."
    listed = [f"{number}. {each}" for number, each in enumerate(asked, 1)]
    return "\n".join(["Do all of this, and change nothing else.", *listed])
