"""What the experiments share: combinations, intervals, tables, pages, and cells that run once."""

import fcntl
import importlib
import json
import os
import subprocess
import sys
import time
import tomllib
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
from experiments.resampling.__main__ import CRUCIAL_LEFT
from experiments.study.bases import find_bases
from experiments.study.cells import Arm, Cell, Condition, cross
from experiments.study.intervals import bootstrap, paired
from experiments.study.outcomes import Outcome, read_outcomes
from experiments.study.plots import plot_conditions, plot_curves
from experiments.study.report import write_page
from experiments.study.tables import comparison_table, success_table
from experiments.study.work import run_cells

from tumbler.errors import RunError, RunFolderError
from tumbler.plugins import PluginHost
from tumbler.registry import load_registry, resolve_run
from tumbler_backends.observers.jsonl.journal import StepRecord
from tumbler_envs.trail.environment import TrailEnvironment
from tumbler_envs.trail.settings import TrailSettings

REGISTRY = """
schema = 1
plugins = { disable = ["progress", "report"] }
envs.trail = { use = "trail", steps = 1, shell = "twin" }
agents.react = { use = "react", system_prompt = "" }
models.tiny = { use = "tiny", layers = 1 }
algorithms.grpo = { use = "grpo", tasks_per_step = 2, group_size = 2 }
[runs.arm]
env = "trail"
agent = "react"
algorithm = "grpo"
model = "tiny"
backends = { inference = "transformers", training = "torch", execution = "local" }
stages = ["rl", "eval"]
limits = { turns = 2, seconds = 60 }
sampling = { max_tokens = 4 }
rl = { steps = 2, checkpoint_every = 0, collapse_patience = 0 }
eval = { episodes = 2 }
"""


def step_record(number: int, success: float) -> StepRecord:
    values = {"rollout/sampled_tokens": 20.0, "rollout/success": success}
    samples = {"train/gradient_norms": (0.5, float(number))}
    return StepRecord(attempt="a", stage="1-rl", kind="rl", step=number, time=0.0, values=values, samples=samples)


def outcome(condition: str, arm: str, seed: int, success: float) -> Outcome:
    steps = tuple(step_record(number, success) for number in range(3))
    cell = Cell(run="arm", condition=condition, arm=arm, seed=seed)
    return Outcome(cell=cell, evaluations=({"trail": success},), steps=steps, seconds=1.0)


OUTCOMES = [
    outcome(condition, arm, seed, success + 0.01 * seed)
    for condition, successes in (("near", {"new": 0.9, "old": 0.5}), ("far", {"new": 0.3, "old": 0.3}))
    for arm, success in successes.items()
    for seed in range(4)
]


def last(each: Outcome) -> float:
    return each.final["trail"]


def test_every_combination_is_there_seed_by_seed():
    arms = [Arm(name="a", overrides=("x=1",)), Arm(name="b")]
    cells = cross("arm", [Condition(name="c", overrides=("x=0",))], arms, [3, 4], per_seed={4: ("y=2",)})
    assert [(cell.arm, cell.seed) for cell in cells] == [("a", 3), ("b", 3), ("a", 4), ("b", 4)]
    assert cells[2].overrides == ("x=0", "x=1", "y=2")
    assert cells[0].folder(Path("root")) == Path("root/c/a/3")


def test_an_interval_holds_its_mean_and_is_the_same_again():
    values = [0.1, 0.4, 0.35, 0.8, 0.2]
    interval = bootstrap(values)
    assert interval.mean == pytest.approx(0.37)
    assert interval.low < interval.mean < interval.high
    assert bootstrap(values) == interval
    assert min(values) <= interval.low and interval.high <= max(values)
    assert bootstrap([0.5] * 3).low == bootstrap([0.5] * 3).high == 0.5


def test_two_values_have_no_interval():
    interval = bootstrap([0.2, 0.4])
    assert not interval.bounded
    assert interval.percent() == "30.0"


def test_the_interval_of_many_values_is_about_as_wide_as_theory_says():
    values = list(range(100))
    error = (sum((value - 49.5) ** 2 for value in values) / 99) ** 0.5 / 10
    interval = bootstrap(values)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_intervals_of_five_values_hold_the_true_mean_about_as_often_as_they_say():
    random = np.random.default_rng(1)
    intervals = [bootstrap(random.normal(size=5), resamples=500) for _ in range(400)]
    held = sum(each.low <= 0 <= each.high for each in intervals) / len(intervals)
    assert 0.91 < held < 0.98


def test_paired_differences_cancel_what_seeds_share():
    interval = paired([0.9, 0.4, 0.6], [0.8, 0.3, 0.5])
    assert (interval.low, interval.high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_tables_show_arms_by_condition_and_mark_clear_differences():
    table = success_table(OUTCOMES, last)
    assert table.splitlines()[0] == "| arm | near | far |"
    assert "| new | 91.5 [" in table
    differences = comparison_table(OUTCOMES, last, against="old")
    assert "| new | **+40.0** [+40.0, +40.0] | +0.0 [+0.0, +0.0] |" in differences


def test_a_run_that_failed_is_counted_and_not_averaged():
    failed = replace(OUTCOMES[0], cell=replace(OUTCOMES[0].cell, seed=9), evaluations=(), error="RunError: NaN")
    first = success_table([*OUTCOMES, failed], last).splitlines()[2]
    assert first.startswith("| new | 91.5 [")
    assert ", 1 failed |" in first
    assert comparison_table([*OUTCOMES, failed], last, against="old") == comparison_table(OUTCOMES, last, against="old")


def test_histograms_of_all_steps_are_read_together():
    assert OUTCOMES[0].samples("train/gradient_norms") == (0.5, 0.0, 0.5, 1.0, 0.5, 2.0)


def test_a_table_shows_what_is_missing():
    partial = [*OUTCOMES[:4], outcome("far", "old", 0, 0.1)]
    assert success_table(partial, last).splitlines()[-1] == "| old | – | 10.0 |"


def test_plots_are_written_and_equal_for_equal_results(tmp_path):
    for name in ("first", "second"):
        places = {"near": 1.0, "far": 2.0}
        plot_conditions(OUTCOMES, last, tmp_path / f"{name}.svg", positions=places, xlabel="x", ylabel="y")
        plot_curves(OUTCOMES, "rollout/success", tmp_path / f"{name}-curve.svg", ylabel="y")
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "second.svg").read_bytes()
    assert "<svg" in (tmp_path / "first-curve.svg").read_text()


def test_a_page_has_its_tables_in_their_places(tmp_path):
    page = write_page("ablation", tmp_path, {"success": "| 1 |", "differences": "| 2 |"})
    text = page.read_text()
    assert text.startswith("# Results")
    assert text.index("| 1 |") < text.index("| 2 |")
    assert "<!--" not in text


@pytest.mark.parametrize("tables", [{"success": "x"}, {"success": "x", "differences": "y", "other": "z"}])
def test_tables_and_marks_must_match(tables, tmp_path):
    with pytest.raises(ValueError, match=r"page\.md has"):
        write_page("ablation", tmp_path, tables)
    assert not list(tmp_path.iterdir())


def test_a_cell_runs_once_and_is_refused_with_other_settings(tmp_path, capsys):
    registry, root = tmp_path / "registry.toml", tmp_path / "out"
    registry.write_text(REGISTRY)
    cells = cross("arm", [Condition(name="one")], [Arm(name="grpo")], [0])
    run_cells(registry, cells, root, workers=1)
    folder = cells[0].folder(root)
    assert not (folder / "checkpoints").exists()
    (found,) = read_outcomes(registry, cells, root)
    assert len(found.steps) == 2
    assert found.sampled_tokens[-1] > 0
    assert set(found.final) == {"trail"}
    written = (folder / "metrics.jsonl").read_bytes()
    run_cells(registry, cells, root, workers=1)
    assert (folder / "metrics.jsonl").read_bytes() == written
    assert "finished before" in capsys.readouterr().err
    other = cross("arm", [Condition(name="one", overrides=("runs.arm.rl.steps=3",))], [Arm(name="grpo")], [0])
    for act in (lambda: run_cells(registry, other, root, workers=1), lambda: read_outcomes(registry, other, root)):
        with pytest.raises(ValueError, match="holds a run with other settings"):
            act()


def test_a_cell_is_the_same_whatever_else_is_installed(tmp_path):
    registry, root = tmp_path / "registry.toml", tmp_path / "out"
    registry.write_text(REGISTRY)
    cells = cross("arm", [Condition(name="one")], [Arm(name="grpo")], [0])
    run_cells(registry, cells, root, workers=1)
    path = cells[0].folder(root) / "run.json"
    written = json.loads(path.read_text())
    assert written["versions"].pop("topr")
    path.write_text(json.dumps({**written, "versions": {**written["versions"], "another": ["else", "1.0"]}}))
    assert len(read_outcomes(registry, cells, root)) == 1


STUDY = """
import sys
from pathlib import Path
from experiments.study.cells import Arm, Condition, cross
from experiments.study.work import run_cells

if __name__ == "__main__":
    cells = cross("arm", [Condition(name="one", overrides=("runs.arm.rl.steps=100000",))], [Arm(name="long")], [0])
    run_cells(Path(sys.argv[1]), cells, Path(sys.argv[2]), workers=1)
"""


def test_a_study_that_is_killed_leaves_no_process(tmp_path):
    registry, script = tmp_path / "registry.toml", tmp_path / "study.py"
    registry.write_text(REGISTRY)
    script.write_text(STUDY)
    paths = os.pathsep.join([str(Path.cwd()), *(each for each in sys.path if each)])
    words = [sys.executable, str(script), str(registry), str(tmp_path / "out")]
    with subprocess.Popen(words, env={**os.environ, "PYTHONPATH": paths}) as study:
        began = tmp_path / "out" / "one" / "long" / "0" / "run.json"
        wait_until(began.exists, 60)
        workers = psutil.Process(study.pid).children(recursive=True)
        study.kill()
    assert workers
    assert psutil.wait_procs(workers, timeout=20)[1] == []


def wait_until(true, seconds):
    """Wait for something to become true; fail after so many seconds."""
    last = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < last
        time.sleep(0.05)


def test_a_folder_that_is_in_use_fails_no_cell(tmp_path):
    registry, root = tmp_path / "registry.toml", tmp_path / "out"
    registry.write_text(REGISTRY)
    cells = cross("arm", [Condition(name="one")], [Arm(name="grpo")], [0])
    folder = cells[0].folder(root)
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock, pytest.raises(RunFolderError, match="another process"):
        fcntl.flock(lock, fcntl.LOCK_EX)
        run_cells(registry, cells, root, workers=1)
    assert not (folder / "failure.json").exists()


def test_a_cell_that_fails_does_not_keep_the_others_from_running(tmp_path, capsys):
    registry, root = tmp_path / "registry.toml", tmp_path / "out"
    registry.write_text(REGISTRY)
    # No episode ends within a nanosecond, so that every rollout is lost.
    arms = [Arm(name="broken", overrides=("runs.arm.limits.seconds=1e-9",)), Arm(name="whole")]
    cells = cross("arm", [Condition(name="one")], arms, [0])
    for _ in range(2):
        run_cells(registry, cells, root, workers=1)
        broken, whole = read_outcomes(registry, cells, root)
        assert "TooManyFailuresError" in broken.error
        assert (whole.error, set(whole.final)) == ("", {"trail"})
    said = capsys.readouterr().err
    assert said.count("FAILED") == 1
    assert said.count("finished before") == 2


def test_a_base_has_its_weights_in_its_name(tmp_path):
    run = tmp_path / "base" / "sft" / "0"
    model = run / "checkpoints" / "1-sft-1" / "model"
    model.mkdir(parents=True)
    (run / "state.json").write_text('{"checkpoint": "checkpoints/1-sft-1", "model": null}')
    (run / "results.json").write_text("{}")
    found = []
    for weights in (b"one", b"two", b"one"):
        (model / "model.safetensors").write_bytes(weights)
        found.append(find_bases("base", [0], tmp_path)[0])
        assert (found[-1] / "model.safetensors").read_bytes() == weights
    assert found[0] == found[2] != found[1]
    with pytest.raises(RunError, match="the model of seed 1 is not trained"):
        find_bases("base", [1], tmp_path)


async def test_the_fork_of_the_resampling_study_is_where_the_study_says():
    table = tomllib.loads(Path("experiments/registry.toml").read_text())["envs"]["fork"]
    table.pop("use")
    environment = TrailEnvironment(TrailSettings.model_validate(table))
    for task in await environment.tasks("train", count=5, seed=0):
        await environment.reset(task, seed=0, sandbox=None)
        expert, observation, turns = environment.expert(task, seed=0), "", 0
        while (action := expert.act(observation)) is not None:
            observation = (await environment.step(action.call)).observation
            turns += 1
        turns += 1  # the turn that says that all is done
        assert turns - task.metadata["crucial_chunk"] in CRUCIAL_LEFT


@pytest.mark.parametrize("name", ["ablation", "credit", "mismatch", "resampling", "settings"])
def test_every_arm_of_every_study_is_a_run_that_resolves(name, monkeypatch):
    study = importlib.import_module(f"experiments.{name}.__main__")
    asked = []

    def note(_options, conditions, arms, seeds, *, run="arm", base="base"):
        asked.extend(cross(run, conditions, arms, seeds))
        return []

    monkeypatch.setattr(study, "run_study", note)
    monkeypatch.setattr(sys, "argv", [name, "--seeds", "1"])
    monkeypatch.setattr(study, "write_results", lambda *_: None, raising=False)
    monkeypatch.setattr(study, "write_page", lambda *_: None)
    if name == "credit":
        monkeypatch.setattr(study, "arms", lambda: [study.variant(each, 1e-3) for each in study.ALGORITHMS])
    assert study.main() == 0
    assert len(asked) >= 7
    host = PluginHost.load()
    for cell in asked:
        resolve_run(load_registry("experiments/registry.toml", cell.overrides), cell.run, host)
