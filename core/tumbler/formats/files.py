"""Exports a run's trajectories into files, and imports ATIF documents; every file appears whole or not at all."""

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Literal, TypeAlias
from urllib.parse import quote

from tumbler.contracts.values import JSONObject
from tumbler.errors import RunFolderError, TrajectoryError
from tumbler.formats.atif_export import trajectory_to_atif
from tumbler.formats.atif_import import trajectory_from_atif
from tumbler.formats.conversations import Conversation, to_chatml, to_conversations, to_sharegpt
from tumbler.run.files import read_json, read_line, read_placed_lines
from tumbler.trajectory import Trajectory, trajectory_from_json, trajectory_to_json

__all__ = ["ExportReport", "export_atif", "export_conversations", "import_atif", "read_trajectories"]

Keep: TypeAlias = Callable[[Trajectory], bool]
_LONGEST_NAME = 200
_MOST_PROBLEMS = 10
_FORMS = {"chatml": to_chatml, "sharegpt": to_sharegpt}


@dataclass(frozen=True, kw_only=True)
class ExportReport:
    """What an export did."""

    path: Path
    """The file or the folder."""
    written: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Reason → trajectories."""
    replies_left_out: int = 0
    """Replies of exported trajectories whose context the record does not hold as text."""


def read_trajectories(run_folder: Path, stages: Collection[str] = ()) -> Iterator[Trajectory]:
    """Yield a run's finished episodes, stage by stage; of two with one id the later counts.

    `stages` are labels such as `3-rl`; none means all. The run may go on meanwhile: nothing is changed, and a line
    that is being written is not read. Raises `RunFolderError` if there are no such stages.
    """
    files = {path.parent.name: path for path in run_folder.glob("stages/*/trajectories.jsonl")}
    unknown = [label for label in stages if label not in files]
    if unknown or not files:
        wanted = f"no stage {', '.join(unknown)}" if unknown else "no stages/*/trajectories.jsonl"
        known = f"; it has: {', '.join(sorted(files, key=_stage_order))}" if files else "; is it the folder of a run?"
        raise RunFolderError(f"{run_folder} has {wanted}{known}")
    for label in sorted(stages or files, key=_stage_order):
        yield from _latest(files[label])


def _latest(file: Path) -> Iterator[Trajectory]:
    places = {_identity(line): place for place, line in read_placed_lines(file)}
    return (trajectory_from_json(read_line(file, place)) for place in sorted(places.values()))


def _identity(line: JSONObject) -> str:
    header = line.get("header")
    return str(header.get("id")) if isinstance(header, Mapping) else ""


def _stage_order(label: str) -> tuple[int, str]:
    number, _, _ = label.partition("-")
    return (int(number) if number.isdecimal() else 0, label)


def export_atif(trajectories: Iterable[Trajectory], folder: Path, *, keep: Keep) -> ExportReport:
    """Write one ATIF document for each trajectory that `keep` lets through, named after its id, into the folder."""
    left_out: Counter[str] = Counter()
    written = 0
    for trajectory in trajectories:
        if not keep(trajectory):
            left_out["not asked for"] += 1
            continue
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder / f"{_file_name(trajectory.id)}.json", [trajectory_to_atif(trajectory)])
        written += 1
    return ExportReport(path=folder, written=written, left_out=left_out)


def export_conversations(
    trajectories: Iterable[Trajectory],
    file: Path,
    *,
    form: Literal["chatml", "sharegpt"],
    keep: Keep,
    system: str = "",
    through_rewrites: bool = False,
) -> ExportReport:
    """Write one JSON line for each conversation of the trajectories that `keep` lets through.

    Left out are those without an opening or a reply, and conversations of which no reply is to be imitated. Where
    nothing is left, no file is written.
    """
    choice = _Choice(keep=keep, system=system, through_rewrites=through_rewrites)
    written = _write(file, (_FORMS[form](each) for each in choice.conversations(trajectories)))
    return ExportReport(path=file, written=written, left_out=choice.left_out, replies_left_out=choice.replies_left_out)


def import_atif(source: Path, file: Path) -> ExportReport:
    """Write the trajectories of the ATIF document, or of all `*.json` in the folder, as JSON lines.

    Foreign documents must hold token ids; for others call `trajectory_from_atif` with a tokenizer. Raises
    `TrajectoryError` that lists up to ten documents that cannot be read; then nothing is written.
    """
    paths = sorted(source.glob("*.json")) if source.is_dir() else [source]
    if not paths:
        raise TrajectoryError(f"{source} holds no *.json")
    problems: list[str] = []
    written = _write(file, _imported(paths, problems), only_if=lambda: not problems)
    if problems:
        listing = "\n".join(f"  - {problem}" for problem in problems[:_MOST_PROBLEMS])
        raise TrajectoryError(f"{len(problems)} of {len(paths)} document(s) cannot be imported:\n{listing}")
    return ExportReport(path=file, written=written)


def _imported(paths: Iterable[Path], problems: list[str]) -> Iterator[JSONObject]:
    for path in paths:
        try:
            yield trajectory_to_json(trajectory_from_atif(read_json(path)))
        except (TrajectoryError, RunFolderError) as error:
            problems.append(f"{path}: {error}")


@dataclass(kw_only=True)
class _Choice:
    """Takes what can be imitated, and counts what cannot."""

    keep: Keep
    system: str
    through_rewrites: bool
    left_out: Counter[str] = field(default_factory=Counter)
    replies_left_out: int = 0

    def conversations(self, trajectories: Iterable[Trajectory]) -> Iterator[Conversation]:
        """Yield the conversations that hold a reply to imitate."""
        for trajectory in trajectories:
            found = self._of(trajectory)
            imitable = [each for each in found if each.imitable]
            if found and not imitable:
                self.left_out["no reply to imitate"] += 1
            yield from imitable

    def _of(self, trajectory: Trajectory) -> tuple[Conversation, ...]:
        if not self.keep(trajectory):
            self.left_out["not asked for"] += 1
            return ()
        try:
            found = to_conversations(trajectory, system=self.system, through_rewrites=self.through_rewrites)
        except TrajectoryError:
            self.left_out["no conversation in the record"] += 1
            return ()
        told = {turn.chunk for each in found for turn in each.turns}
        self.replies_left_out += len(trajectory.chunks) - len(told)
        return found


def _file_name(identity: str) -> str:
    """Return a file name that only this id has, on every file system."""
    name = quote(identity, safe=" ", errors="surrogatepass")
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{name[:_LONGEST_NAME]}-{sha256(name.encode()).hexdigest()[:16]}"


def _write(file: Path, objects: Iterable[JSONObject], *, only_if: Callable[[], bool] = lambda: True) -> int:
    """Write the objects, one a line, and return how many; nothing where there are none or `only_if` says no."""
    file.parent.mkdir(parents=True, exist_ok=True)
    beside = file.with_name(f".{file.name[:_LONGEST_NAME]}.{os.getpid()}")
    written = 0
    try:
        with beside.open("w", encoding="utf-8") as stream:
            for each in objects:
                stream.write(json.dumps(each, separators=(",", ":")) + "\n")
                written += 1
            stream.flush()
            os.fsync(stream.fileno())
        if written and only_if():
            beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)
    return written
