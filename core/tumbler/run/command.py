"""Starts, repeats and resumes runs for whoever asks: folders, signals, the event loop."""

import asyncio
import errno
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from tumbler.contracts.values import JSONObject
from tumbler.errors import RunError, RunFolderError, TumblerError
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun, load_resolved
from tumbler.run.execute import execute_run
from tumbler.run.files import read_json
from tumbler.run.folder import RunFolder
from tumbler.run.provenance import require_resumable

__all__ = [
    "Interrupted",
    "evaluate_run",
    "latest_unfinished",
    "new_folder",
    "resume_run",
    "start_run",
    "trained_model",
]


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_TAKING_DOWN_S = 90.0
"""For a run that has stalled; workers alone have 30 seconds to clean up."""


class Interrupted(KeyboardInterrupt):
    """The run was stopped by a signal; its folder can be resumed."""

    def __init__(self, folder: Path, number: int) -> None:
        """Name the folder and the signal's number."""
        super().__init__(f"stopped by {signal.Signals(number).name}; go on with: tumbler run --resume {folder}")
        self.folder = folder
        self.number = number

    def __reduce__(self) -> tuple[type["Interrupted"], tuple[Path, int]]:
        """Say how to make it anew in another process; by default that would be from the message."""
        return type(self), (self.folder, self.number)


def start_run(resolved: ResolvedRun, path: Path, host: PluginHost) -> JSONObject:
    """Run in a new folder and return `results.json`."""
    folder = RunFolder(path)
    state = folder.create(resolved.to_json())
    try:
        return _run(partial(execute_run, resolved, folder, state, host), path)
    finally:
        folder.close()


def resume_run(path: Path, host: PluginHost) -> JSONObject:
    """Go on with the run in the folder and return `results.json`; a finished one is returned as it is.

    Raises `RunError` where its agent or a context strategy is of another version than when the run began.
    """
    folder = RunFolder(path)
    resolved = load_resolved(path / "run.json")
    state = folder.open()
    try:
        if state.finished:
            return read_json(path / "results.json")
        require_resumable(resolved, host)
        return _run(partial(execute_run, resolved, folder, state, host, resumed=True), path)
    finally:
        folder.close()


def evaluate_run(resolved: ResolvedRun, model: Path, path: Path, host: PluginHost) -> JSONObject:
    """Evaluate a model folder in the run's environments, in a folder of its own; return its `results.json`."""
    alone = replace(
        resolved,
        name=f"{resolved.name}-eval",
        stages=("eval",),
        backends={role: each for role, each in resolved.backends.items() if role != "training"},
    )
    folder = RunFolder(path)
    state = folder.create(alone.to_json())
    state.model = str(model.resolve())
    folder.write_state(state)
    try:
        return _run(partial(execute_run, alone, folder, state, host), path)
    finally:
        folder.close()


def trained_model(path: Path, checkpoint: str | None = None) -> Path:
    """Return the model folder of a run's checkpoint; by default the newest, or the model it started from."""
    state = read_json(path / "state.json")
    chosen = f"checkpoints/{checkpoint}" if checkpoint else state["checkpoint"]
    if chosen is None and state["model"] is not None:
        return Path(str(state["model"]))
    model = path / str(chosen) / "model"
    if chosen is None or not model.is_dir():
        kept = sorted(each.name for each in (path / "checkpoints").glob("*"))
        raise RunFolderError(f"{path} has no checkpoint {checkpoint or ''}; it has: {', '.join(kept) or 'none'}")
    return model


def new_folder(root: Path, name: str, seed: int) -> Path:
    """Return a folder under `root` that no run has yet."""
    stem = f"{name}-{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    path, count = root / stem, 1
    while path.exists():
        count += 1
        path = root / f"{stem}-{count}"
    return path


def latest_unfinished(root: Path, names: Sequence[str] = ()) -> Path:
    """Return the newest folder under `root` whose run is not finished; `names` are the runs that count."""
    candidates = sorted(root.glob("*/state.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in candidates:
        if not (path.parent / "run.json").exists():
            continue  # its process ended before the run began
        run = read_json(path.parent / "run.json")
        if not read_json(path)["finished"] and (not names or run["name"] in names):
            return path.parent
    wanted = f" of {', '.join(names)}" if names else ""
    raise RunFolderError(f"no unfinished run{wanted} under {root}; start one with: tumbler run NAME")


class _LastResort:
    """Ends the process of a run that has stalled and cannot be taken down: threads that hang cannot be cancelled."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._timer: threading.Timer | None = None

    def arm(self, error: RunError) -> None:
        """Leave so much time for taking the run down."""
        self._timer = threading.Timer(_TAKING_DOWN_S, self._end, [error])
        self._timer.daemon = True
        self._timer.start()

    def disarm(self) -> None:
        """Note that it is taken down."""
        if self._timer is not None:
            self._timer.cancel()

    def _end(self, error: RunError) -> None:
        late = f"What hangs did not end within {_TAKING_DOWN_S:g} s either; the process ends all the same."
        sys.stderr.write("\n".join([f"tumbler: {error}", late, _how_to_go_on(self._path), ""]))
        sys.stderr.flush()
        os._exit(1)


def _run(work: Callable[..., Coroutine[object, object, JSONObject]], path: Path) -> JSONObject:
    """Run to the end; SIGINT and SIGTERM cancel it, and it cleans up before `Interrupted` is raised."""
    received: list[int] = []
    last_resort = _LastResort(path)

    async def supervised() -> JSONObject:
        task = asyncio.ensure_future(work(on_stall=last_resort.arm))
        loop = asyncio.get_running_loop()

        def stop(number: int) -> None:
            received.append(number)
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop, number)
        return await task

    try:
        return asyncio.run(supervised())
    except asyncio.CancelledError:
        raise Interrupted(path, received[0] if received else signal.SIGINT) from None
    except TumblerError as error:
        error.add_note(_how_to_go_on(path))
        raise
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        full = RunError(f"no room is left on a disk that the run writes to: {error}. Make room")
        full.add_note(_how_to_go_on(path))
        raise full from error
    finally:
        last_resort.disarm()


def _how_to_go_on(path: Path) -> str:
    return f"The folder holds what was finished; when the cause is mended, go on with: tumbler run --resume {path}"
