"""Runs the cells of a study on several processes; a finished cell is not run again, one that was cut off goes on.

Each process is started afresh with one PyTorch thread and works off cells until none is left. An interrupt ends them
all; the same command goes on from the cells' last checkpoints.
"""

import contextlib
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from pathlib import Path

from experiments.study.cells import Cell

__all__ = ["run_cells"]

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_cells(registry: Path, cells: Sequence[Cell], root: Path, *, workers: int) -> float:
    """Run all cells and return the seconds that took; exit with what went wrong if a cell fails.

    Args:
        registry: the file with the runs.
        cells: what to run, in order.
        root: the study's folder; each cell gets `CONDITION/ARM/SEED` under it.
        workers: processes at a time.
    """
    began = time.monotonic()
    with _one_thread_each(), ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(_run, registry, cell, cell.folder(root)): cell for cell in cells}
        try:
            for number, done in enumerate(as_completed(running), start=1):
                _tell(number, len(cells), running[done], done, began)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return time.monotonic() - began


def _run(registry: Path, cell: Cell, folder: Path) -> float:
    """Run one cell in this process and return its seconds; 0 if it was finished before."""
    from tumbler.plugins import PluginHost
    from tumbler.registry import load_registry, load_resolved, resolve_run
    from tumbler.run.command import resume_run, start_run
    from tumbler.run.files import read_json

    began = time.monotonic()
    loaded = load_registry(registry, [*cell.overrides, f"runs.{cell.run}.seed={cell.seed}"])
    host = PluginHost.load(allow=loaded.tables.plugins.allow, disable=loaded.tables.plugins.disable)
    resolved = resolve_run(loaded, cell.run, host)
    if (folder / "run.json").exists():
        if load_resolved(folder / "run.json").to_json() != resolved.to_json():
            raise ValueError(f"{folder} holds a run with other settings; remove it, or take another --out")
        if read_json(folder / "state.json")["finished"]:
            return 0.0
        resume_run(folder, host)
    else:
        start_run(resolved, folder, host)
    if "sft" not in resolved.stages:
        # Only the bases' weights are used again; hundreds of cells would fill a disk.
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return time.monotonic() - began


def _tell(number: int, total: int, cell: Cell, done: "Future[float]", began: float) -> None:
    seconds = done.result()
    note = f"{seconds:.0f} s" if seconds else "finished before"
    passed = time.monotonic() - began
    print(
        f"[{passed / 60:5.1f} min] {number}/{total} {cell.condition} {cell.arm} seed {cell.seed}: {note}",
        file=sys.stderr,
        flush=True,
    )


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let the processes that are started meanwhile compute with one thread; two that share a core waste both."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
