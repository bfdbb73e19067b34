"""Keep what sandboxes tried to reach; knows no policy."""

import contextlib
import itertools
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final, Literal

from tumbler.contracts.sandbox_control import EgressRecord

__all__ = ["EgressLog"]

_logger: Final = logging.getLogger(__name__)
_LINES_PER_SANDBOX: Final = 100_000


class EgressLog:
    """The latest attempts of each sandbox, and a file of JSON lines of all of them if one is asked for.

    A connection has two lines: `attempt` when it is decided, `end` with the bytes that went. May be
    used by several threads.
    """

    def __init__(self, path: Path | None = None, *, keep: int = 10_000) -> None:
        """Keep at most `keep` records of each sandbox; append lines to the file at `path`."""
        self._keep = keep
        self._numbers = itertools.count()
        self._records: dict[str, OrderedDict[int, EgressRecord]] = {}
        self._lines: dict[str, int] = {}
        self._failed = False
        self._lock = threading.Lock()
        self._file = path.open("a", encoding="utf-8", buffering=1) if path is not None else None

    def add(self, record: EgressRecord) -> int:
        """Keep a record; return its number."""
        with self._lock:
            number = next(self._numbers)
            records = self._records.setdefault(record.sandbox, OrderedDict())
            records[number] = record
            if len(records) > self._keep:
                records.popitem(last=False)
            self._write("attempt", record)
            return number

    def finish(self, number: int, record: EgressRecord, sent: int, received: int) -> None:
        """Add the bytes that went over a connection which `add` numbered."""
        ended = replace(record, sent=sent, received=received)
        with self._lock:
            records = self._records.get(record.sandbox, OrderedDict())
            if number in records:
                records[number] = ended
            self._write("end", ended)

    def of(self, sandbox: str) -> Sequence[EgressRecord]:
        """Return a sandbox's records, oldest first."""
        with self._lock:
            return tuple(self._records.get(sandbox, OrderedDict()).values())

    def forget(self, sandbox: str) -> None:
        """Drop a deleted sandbox's records; the file keeps its lines."""
        with self._lock:
            self._records.pop(sandbox, None)
            self._lines.pop(sandbox, None)

    def close(self) -> None:
        """Close the file; records added later are kept in memory only."""
        with self._lock:
            file, self._file = self._file, None
            if file is not None:
                with contextlib.suppress(OSError):  # a full disk was told of before
                    file.close()

    def _write(self, event: Literal["attempt", "end"], record: EgressRecord) -> None:
        if self._file is None:
            return
        lines = self._lines[record.sandbox] = self._lines.get(record.sandbox, 0) + 1
        # A sandbox that does nothing but knock must not fill the disk.
        if lines > _LINES_PER_SANDBOX:
            return
        try:
            self._file.write(json.dumps({"event": event, **asdict(record)}) + "\n")
        except OSError as error:
            if not self._failed:
                _logger.warning("the egress log %s cannot be written: %s", self._file.name, error)
            self._failed = True
