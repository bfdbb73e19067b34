"""Plays all episodes of arms A and C on several processes, each with one thread."""

import asyncio
import multiprocessing
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import TypeVar

from experiments.context.arms import ARMS
from experiments.context.cuts import Cut, cut_everywhere
from experiments.context.episodes import play
from experiments.context.measures import Measured

__all__ = ["Batch", "play_batches", "play_cuts"]

_Result = TypeVar("_Result")


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The episodes of one arm and family."""

    arm: str
    family: str
    seeds: tuple[int, ...]


def play_batches(arms: Iterable[str], families: Sequence[str], seeds: Iterable[int], *, workers: int) -> list[Measured]:
    """Play every task with every arm and return what was measured, in order."""
    drawn = tuple(seeds)
    batches = [Batch(arm=arm, family=family, seeds=drawn) for arm in arms for family in families]
    return _together(_play, batches, workers)


def play_cuts(families: Sequence[str], seeds: Iterable[int], *, workers: int) -> list[Cut]:
    """Cut every task everywhere and return what became of it."""
    drawn = tuple(seeds)
    return _together(_cut, [Batch(arm="", family=family, seeds=drawn) for family in families], workers)


def _play(batch: Batch) -> list[Measured]:
    arm = next(each for each in ARMS if each.name == batch.arm)
    return [asyncio.run(play(arm, batch.family, seed)) for seed in batch.seeds]


def _cut(batch: Batch) -> list[Cut]:
    return [cut for seed in batch.seeds for cut in asyncio.run(cut_everywhere(batch.family, seed))]


def _together(work: Callable[[Batch], list[_Result]], batches: Sequence[Batch], workers: int) -> list[_Result]:
    """Return the results of all batches in their order."""
    began = time.monotonic()
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(work, batch) for batch in batches]
        for number, _ in enumerate(as_completed(running), start=1):
            if number % 12 == 0 or number == len(batches):
                print(f"[{time.monotonic() - began:4.0f} s] {number}/{len(batches)}", file=sys.stderr, flush=True)
        return [result for done in running for result in done.result()]
