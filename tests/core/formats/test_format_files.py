"""Files of exports and imports: complete or absent, and everything that is left out is counted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.core.formats.records import rich_trajectory

from tumbler.errors import RunFolderError, TrajectoryError
from tumbler.formats.files import export_atif, export_conversations, import_atif, read_trajectories
from tumbler.run.journal import StageJournal
from tumbler.trajectory import Trajectory, trajectory_from_json


def named(identity: str, **changes: object) -> Trajectory:
    trajectory = rich_trajectory()
    return replace(trajectory, header=replace(trajectory.header, id=identity), **changes)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    for label, identities in {"2-eval": ["2-eval/0"], "10-rl": ["10-rl/0", "10-rl/1"]}.items():
        folder = tmp_path / "run" / "stages" / label
        folder.mkdir(parents=True)
        journal = StageJournal(folder)
        for identity in identities:
            journal.add(named(identity))
    return tmp_path / "run"


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_a_runs_trajectories_are_read_in_the_order_of_its_stages(run_folder: Path) -> None:
    assert [each.id for each in read_trajectories(run_folder)] == ["2-eval/0", "10-rl/0", "10-rl/1"]
    assert [each.id for each in read_trajectories(run_folder, ["10-rl"])] == ["10-rl/0", "10-rl/1"]


def test_of_two_trajectories_with_one_id_the_later_counts(run_folder: Path) -> None:
    StageJournal(run_folder / "stages" / "10-rl").add(named("10-rl/0", reward=0.25))
    found = {each.id: each.reward for each in read_trajectories(run_folder, ["10-rl"])}
    assert found == {"10-rl/0": 0.25, "10-rl/1": 0.5}


def test_a_line_that_is_being_written_is_neither_read_nor_cut_off(run_folder: Path) -> None:
    file = run_folder / "stages" / "2-eval" / "trajectories.jsonl"
    torn = file.read_bytes() + b'{"header":'
    file.write_bytes(torn)
    assert [each.id for each in read_trajectories(run_folder, ["2-eval"])] == ["2-eval/0"]
    assert file.read_bytes() == torn


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="is it the folder of a run"):
        list(read_trajectories(tmp_path))


def test_an_unknown_stage_is_refused_with_those_there_are(run_folder: Path) -> None:
    with pytest.raises(RunFolderError, match="no stage rl; it has: 2-eval, 10-rl"):
        list(read_trajectories(run_folder, ["rl"]))


def test_exported_documents_are_imported_as_equal_trajectories(run_folder: Path, tmp_path: Path) -> None:
    report = export_atif(read_trajectories(run_folder), tmp_path / "atif", keep=lambda each: each.id != "10-rl/0")
    assert (report.written, report.left_out) == (2, {"not asked for": 1})
    assert import_atif(tmp_path / "atif", tmp_path / "back.jsonl").written == 2
    back = {each.id: each for each in map(trajectory_from_json, lines(tmp_path / "back.jsonl"))}
    assert back == {identity: named(identity) for identity in ("2-eval/0", "10-rl/1")}


@pytest.mark.parametrize(
    "identities", [["a/b", "a%2Fb", "a.b"], ["..", ".", "/"], ["x" * 300, "x" * 301], ["é", "\udc80"]]
)
def test_every_id_has_a_file_of_its_own_in_the_folder(identities: list[str], tmp_path: Path) -> None:
    export_atif(map(named, identities), tmp_path / "atif", keep=lambda each: True)
    found = [json.loads(path.read_text())["trajectory_id"] for path in (tmp_path / "atif").iterdir()]
    assert sorted(found) == sorted(each.replace("\udc80", "\ufffd") for each in identities)


@pytest.mark.parametrize(("form", "key"), [("chatml", "messages"), ("sharegpt", "conversations")])
def test_conversations_are_one_a_line(run_folder: Path, tmp_path: Path, form, key: str) -> None:
    file = tmp_path / "new" / "sft.jsonl"
    report = export_conversations(read_trajectories(run_folder), file, form=form, keep=lambda each: True)
    assert (report.written, report.replies_left_out) == (3, 6)
    assert [key in each for each in lines(file)] == [True] * 3


def test_trajectories_that_cannot_be_imitated_are_counted_by_their_reason(tmp_path: Path) -> None:
    trajectory = rich_trajectory()
    found = [
        named("good"),
        named("unknown task", details={}),
        named("only errors", chunks=tuple(replace(each, errored=True) for each in trajectory.chunks)),
        named("unwanted"),
    ]
    report = export_conversations(found, tmp_path / "a.jsonl", form="sharegpt", keep=lambda each: each.id != "unwanted")
    assert [each["id"] for each in lines(tmp_path / "a.jsonl")] == ["good"]
    assert report.left_out == {"no conversation in the record": 1, "no reply to imitate": 1, "not asked for": 1}


def test_an_export_of_nothing_leaves_an_older_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("old")
    assert export_conversations([], tmp_path / "a.jsonl", form="chatml", keep=lambda each: True).written == 0
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.jsonl": "old"}


def test_an_export_that_fails_leaves_no_part_of_a_file(tmp_path: Path) -> None:
    def failing():
        yield named("good")
        raise RunFolderError("line 2 is not JSON")

    with pytest.raises(RunFolderError):
        export_conversations(failing(), tmp_path / "a.jsonl", form="chatml", keep=lambda each: True)
    assert list(tmp_path.iterdir()) == []


def test_all_documents_that_cannot_be_imported_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    export_atif([named("good")], tmp_path / "atif", keep=lambda each: True)
    (tmp_path / "atif" / "broken.json").write_text("{")
    (tmp_path / "atif" / "other.json").write_text('{"schema_version": "ATIF-v9"}')
    with pytest.raises(TrajectoryError, match=r"(?s)2 of 3 document.*broken\.json is not JSON.*other\.json.*ATIF-v9"):
        import_atif(tmp_path / "atif", tmp_path / "back.jsonl")
    assert not (tmp_path / "back.jsonl").exists()


def test_a_folder_without_documents_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrajectoryError, match=r"holds no \*\.json"):
        import_atif(tmp_path, tmp_path / "back.jsonl")
