"""Runs the cells of a study on several processes; a finished cell is not run again, one that was cut off goes on.

Each process is started afresh with one PyTorch thread and works off cells until none is left. An interrupt ends them
all; the same command goes on from the cells' last checkpoints. A cell whose run ends in an error is an outcome like
any other: the error is kept in its folder, and the rest goes on.
"""

import contextlib
import json
import multiprocessing
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

from experiments.study.cells import Cell

from tumbler.errors import RunFolderError, TumblerError
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun, load_registry, load_resolved, resolve_run

__all__ = ["FAILURE", "check_settings", "run_cells"]

FAILURE = "failure.json"
"""What a cell's folder holds in place of results if its run ended in an error."""
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def run_cells(registry: Path, cells: Sequence[Cell], root: Path, *, workers: int) -> float:
    """Run all cells and return the seconds that took.

    Args:
        registry: the file with the runs.
        cells: what to run, in order.
        root: the study's folder; each cell gets `CONDITION/ARM/SEED` under it.
        workers: processes at a time.
    """
    began = time.monotonic()
    with _one_thread_each(), _pool(workers) as pool:
        running = {pool.submit(_run, registry, cell, cell.folder(root)): cell for cell in cells}
        try:
            for number, done in enumerate(as_completed(running), start=1):
                _tell(number, len(cells), running[done], done.result(), time.monotonic() - began)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return time.monotonic() - began


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), initializer=_end_with_parent)


def _end_with_parent() -> None:
    """Let this process end when the study's own process does, however that ends."""

    def watch(parent: BaseProcess) -> None:
        parent.join()
        os._exit(1)

    if parent := multiprocessing.parent_process():
        threading.Thread(target=watch, args=(parent,), daemon=True).start()


def check_settings(registry: Path, cell: Cell, folder: Path) -> None:
    """Raise `ValueError` if the folder's run is not the cell's."""
    _check(_resolve(registry, cell)[0], folder)


def _run(registry: Path, cell: Cell, folder: Path) -> str:
    """Run one cell in this process and return how that ended."""
    from tumbler.run.command import resume_run, start_run
    from tumbler.run.files import read_json

    began = time.monotonic()
    resolved, host = _resolve(registry, cell)
    begun = (folder / "run.json").exists()
    if begun:
        _check(resolved, folder)
        if (folder / FAILURE).exists() or read_json(folder / "state.json")["finished"]:
            return "finished before"
    try:
        resume_run(folder, host) if begun else start_run(resolved, folder, host)
    except RunFolderError:
        raise  # such as another study on the same folder: nothing that the cell's run could be judged by
    except TumblerError as error:
        (folder / FAILURE).write_text(json.dumps({"error": f"{type(error).__name__}: {error}"}), encoding="utf-8")
        return f"FAILED with {type(error).__name__}: {error}"
    if "sft" not in resolved.stages:
        # Only the bases' weights are used again; hundreds of cells would fill a disk.
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    return f"{time.monotonic() - began:.0f} s"


def _resolve(registry: Path, cell: Cell) -> tuple[ResolvedRun, PluginHost]:
    loaded = load_registry(registry, [*cell.overrides, f"runs.{cell.run}.seed={cell.seed}"])
    host = PluginHost.load(allow=loaded.tables.plugins.allow, disable=loaded.tables.plugins.disable)
    return resolve_run(loaded, cell.run, host), host


def _check(resolved: ResolvedRun, folder: Path) -> None:
    # Each component names its own version; which other plugins are installed decides nothing.
    if replace(load_resolved(folder / "run.json"), versions={}) != replace(resolved, versions={}):
        raise ValueError(f"{folder} holds a run with other settings; remove it, or take another --out")


def _tell(number: int, total: int, cell: Cell, ending: str, seconds: float) -> None:
    which = f"{cell.condition} {cell.arm} seed {cell.seed}"
    print(f"[{seconds / 60:5.1f} min] {number}/{total} {which}: {ending}", file=sys.stderr, flush=True)


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
