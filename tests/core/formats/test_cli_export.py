"""The commands `export` and `import-atif`."""

import json
import subprocess
import sys
from argparse import ArgumentParser
from dataclasses import replace
from pathlib import Path

import pytest
from tests.core.formats.records import rich_trajectory

from tumbler.cli import export, import_atif
from tumbler.errors import RunError
from tumbler.run.journal import StageJournal
from tumbler.trajectory import trajectory_from_json


def run(command, *arguments: object) -> int:
    parser = ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args([str(each) for each in arguments]))


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    stage = tmp_path / "run" / "stages" / "1-rl"
    stage.mkdir(parents=True)
    journal = StageJournal(stage)
    good = rich_trajectory()
    for name, changes in {
        "good": {},
        "failed": {"success": False, "reward": 0.0},
        "cut": {"status": "truncated"},
        "lost": {"status": "infra_failed", "status_reason": "x", "reward": None, "success": None},
        "shown": {"header": replace(good.header, source="expert")},
    }.items():
        changed = replace(good, **changes)
        journal.add(replace(changed, header=replace(changed.header, id=name)))
    return tmp_path / "run"


def exported(run_folder: Path, *options: str) -> list[str]:
    target = run_folder.parent / "out.jsonl"
    assert run(export, run_folder, target, "--format", "sharegpt", *options) == 0
    return [json.loads(line)["id"] for line in target.read_text().splitlines()]


def test_atif_takes_every_trajectory_and_they_come_back(run_folder: Path, tmp_path: Path, capsys) -> None:
    assert run(export, run_folder, tmp_path / "atif") == 0
    assert run(import_atif, tmp_path / "atif", tmp_path / "back.jsonl") == 0
    assert capsys.readouterr().out == f"wrote 5 to {tmp_path / 'atif'}\nwrote 5 to {tmp_path / 'back.jsonl'}\n"
    back = [trajectory_from_json(json.loads(line)) for line in (tmp_path / "back.jsonl").read_text().splitlines()]
    assert {each.id for each in back} == {"good", "failed", "cut", "lost", "shown"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], ["good", "failed", "shown"]),
        (["--keep", "successful"], ["good", "shown"]),
        (["--keep", "all", "--stage", "1-rl"], ["good", "failed", "cut", "lost", "shown"]),
        (["--source", "expert"], ["shown"]),
    ],
)
def test_what_is_exported_is_chosen_by_options(run_folder: Path, options: list[str], expected: list[str]) -> None:
    assert exported(run_folder, *options) == expected


def test_what_is_left_out_is_told(run_folder: Path, capsys) -> None:
    exported(run_folder)
    assert capsys.readouterr().out.splitlines()[1:] == [
        "left out: 2 (not asked for)",
        "left out: 6 replies whose context is not in the record as text",
    ]


def test_the_system_message_is_read_from_a_file(run_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "system.txt").write_text("Be brief.")
    target = tmp_path / "a.jsonl"
    run(export, run_folder, target, "--format", "chatml", "--system", tmp_path / "system.txt", "--rewritten")
    messages = json.loads(target.read_text().splitlines()[0])["messages"]
    assert messages[0] == {"role": "system", "content": "Be brief."}
    assert messages[-1] == {"role": "assistant", "content": "done", "weight": 0}


def test_a_system_message_that_cannot_be_read_is_an_error(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"--system .* cannot be read"):
        run(export, run_folder, tmp_path / "a", "--format", "chatml", "--system", tmp_path / "none.txt")


def test_an_export_of_nothing_is_an_error_that_says_why(run_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"nothing to export; left out: 5 \(not asked for\)"):
        run(export, run_folder, tmp_path / "atif", "--source", "teacher")


@pytest.mark.parametrize("module", ["export", "import_atif"])
def test_the_help_imports_nothing_heavy(module: str) -> None:
    script = (
        f"import sys, argparse\nfrom tumbler.cli import {module} as command\n"
        "command.add_arguments(argparse.ArgumentParser())\n"
        "print(' '.join(sys.modules))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert not {"pydantic", "tumbler.formats", "tumbler.run"} & set(answer.stdout.split())
