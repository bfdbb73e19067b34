"""One worker process: a trainer that does what its owner's calls say, and ends when the owner does.

Started as `python -m tumbler_backends.training.torch.workers.worker RANK SIZE OWNER PIPE FOLDER`.
"""

import os
import shutil
import sys
import time
import traceback
from contextlib import suppress
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Thread
from typing import NoReturn, cast

import torch
from torch import distributed

from tumbler.contracts.inference import WeightUpdate
from tumbler_backends.training.torch.parallel.team import Team
from tumbler_backends.training.torch.trainer import Trainer
from tumbler_backends.training.torch.workers.messages import Answer, Call, pack_error, read_call, write_weights
from tumbler_backends.training.torch.workers.progress import ProgressFile

__all__ = ["main"]

LOOKS = 0.5
"""Seconds between two looks at whether the owner is there."""
FOREVER = timedelta(days=30)
"""For PyTorch's own patience with other processes: the owner's is the one that counts."""


def main() -> None:
    """Take calls until there are no more."""
    rank, size, owner, pipe = map(int, sys.argv[1:5])
    folder = Path(sys.argv[5])
    progress = ProgressFile(folder / "progress", workers=size)
    Thread(target=_watch, args=(owner, folder, progress, rank), daemon=True).start()
    calls = Connection(pipe)
    team = Team(rank=rank, size=size, beat=lambda: progress.beat(rank), met=lambda: progress.meet(rank))
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // size))
    distributed.init_process_group(
        "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo",
        init_method=(folder / "rendezvous").as_uri(),
        rank=rank,
        world_size=size,
        timeout=FOREVER,
    )
    _serve(calls, folder, team)
    distributed.destroy_process_group()


def _serve(calls: Connection, folder: Path, team: Team) -> None:
    trainer: Trainer | None = None
    while (name := _next(calls, folder)) is not None:
        team.beat()
        try:
            call = read_call(folder / name)
            if trainer is None:
                trainer = Trainer(*call.arguments, **call.named, team=team)
            result = None if call.method == "start" else _do(trainer, call)
            if isinstance(result, WeightUpdate) and team.leads:
                result = write_weights(folder / "weights", result)
            answer = Answer(version=trainer.version, result=result if team.leads else None)
        except Exception as error:  # noqa: BLE001  # an algorithm's or a model's own code; the owner raises it
            # The log may lie on the disk that is full; the owner is to hear of it all the same.
            with suppress(OSError):
                traceback.print_exc()
            answer = Answer(version=0 if trainer is None else trainer.version, error=pack_error(error))
        team.beat()
        calls.send(answer)


def _do(trainer: Trainer, call: Call) -> object:
    return getattr(trainer, call.method)(*call.arguments, **call.named)


def _next(calls: Connection, folder: Path) -> str | None:
    try:
        return cast("str | None", calls.recv())
    except EOFError:
        _follow(folder)


def _follow(folder: Path) -> NoReturn:
    """End the process now, as the owner has ended, and leave nothing behind."""
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)


def _watch(owner: int, folder: Path, progress: ProgressFile, rank: int) -> None:
    """End the process, whatever it is doing, when the owner is gone."""
    while os.getppid() == owner:
        progress.show_alive(rank)
        time.sleep(LOOKS)
    _follow(folder)


if __name__ == "__main__":
    main()
