"""The pool of training tasks: every task once in a pass, none twice in a step, equal for equal seeds."""

from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tumbler.contracts.environment import Task
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun
from tumbler.run.command import start_run
from tumbler.run.journal import StageJournal
from tumbler.run.tasks import draw

POOL = [Task(id=str(index), instruction="") for index in range(7)]


def drawn(size: int, seed: int, steps: int) -> list[list[str]]:
    return [[task.id for task in step] for step in islice(draw(POOL, size, seed), steps)]


@given(size=st.integers(1, 7), seed=st.integers(0, 1000))
def test_a_pass_has_every_task_once_and_a_step_none_twice(size: int, seed: int) -> None:
    steps = drawn(size, seed, 21)
    assert all(len(set(step)) == size for step in steps)
    line = [task for step in steps for task in step]
    for start in range(0, len(line) - 6, 7):
        assert Counter(line[start : start + 7]) == Counter(task.id for task in POOL)


def test_equal_seeds_draw_equally_and_passes_differ() -> None:
    assert drawn(7, 1, 4) == drawn(7, 1, 4)
    assert drawn(7, 1, 4) != drawn(7, 2, 4)
    assert len({tuple(step) for step in drawn(7, 1, 4)}) == 4


def test_a_run_with_a_pool_trains_on_no_other_tasks(
    resolve: Callable[..., ResolvedRun], host: PluginHost, tmp_path: Path
) -> None:
    start_run(resolve("runs.small.stages=['rl']", "runs.small.rl.pool=5"), tmp_path / "run", host)
    known = StageJournal(tmp_path / "run/stages/1-rl").known()
    assert Counter(each.header.task for each in known.values()) == dict.fromkeys(
        {each.header.task for each in known.values()}, 6
    )
    assert len({each.header.task for each in known.values()}) == 5


def test_a_pool_smaller_than_a_step_gives_what_it_has(
    resolve: Callable[..., ResolvedRun], host: PluginHost, tmp_path: Path
) -> None:
    start_run(resolve("runs.small.stages=['rl']", "runs.small.rl.pool=1"), tmp_path / "run", host)
    known = StageJournal(tmp_path / "run/stages/1-rl").known()
    assert len(known) == 15
