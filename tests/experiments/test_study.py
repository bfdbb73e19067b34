"""What the experiments share: combinations, intervals, tables, pages, and cells that run once."""

import json
from pathlib import Path

import pytest
from experiments.study.cells import Arm, Cell, Condition, cross
from experiments.study.intervals import bootstrap, paired
from experiments.study.outcomes import Outcome, read_outcomes
from experiments.study.plots import plot_conditions, plot_curves
from experiments.study.report import write_page
from experiments.study.tables import comparison_table, success_table
from experiments.study.work import run_cells

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


def outcome(condition: str, arm: str, seed: int, success: float) -> Outcome:
    steps = tuple({"rollout/tokens": 10.0, "rollout/episodes": 2.0, "rollout/success": success} for _ in range(3))
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
    assert bootstrap([0.5] * 3).low == bootstrap([0.5] * 3).high == 0.5


def test_the_interval_of_a_mean_is_about_as_wide_as_theory_says():
    # Exact for the bootstrap's own distribution: the standard error with n in the denominator.
    values = list(range(100))
    spread = (sum((value - 49.5) ** 2 for value in values) / 100) ** 0.5 / 10
    interval = bootstrap(values)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * spread, rel=0.05)


def test_paired_differences_cancel_what_seeds_share():
    assert paired([0.9, 0.4, 0.6], [0.8, 0.3, 0.5]).low == pytest.approx(0.1)


def test_tables_show_arms_by_condition_and_mark_clear_differences():
    table = success_table(OUTCOMES, last)
    assert table.splitlines()[0] == "| arm | near | far |"
    assert "| new | 91.5 [" in table
    differences = comparison_table(OUTCOMES, last, against="old")
    assert "| new | **+40.0** [+40.0, +40.0] | +0.0 [+0.0, +0.0] |" in differences


def test_a_table_shows_what_is_missing():
    partial = [*OUTCOMES[:4], outcome("far", "old", 0, 0.1)]
    assert success_table(partial, last).splitlines()[-1] == "| old | – | 10.0 [10.0, 10.0] |"


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


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_cell_runs_once_and_is_refused_with_other_settings(tmp_path, capsys):
    registry, root = tmp_path / "registry.toml", tmp_path / "out"
    registry.write_text(REGISTRY)
    cells = cross("arm", [Condition(name="one")], [Arm(name="grpo")], [0])
    run_cells(registry, cells, root, workers=1)
    assert not (cells[0].folder(root) / "checkpoints").exists()
    (found,) = read_outcomes(cells, root)
    assert len(found.steps) == 2
    assert found.sampled_tokens[-1] > 0
    assert set(found.final) == {"trail"}
    written = (cells[0].folder(root) / "metrics.jsonl").read_bytes()
    run_cells(registry, cells, root, workers=1)
    assert (cells[0].folder(root) / "metrics.jsonl").read_bytes() == written
    assert "finished before" in capsys.readouterr().err
    other = cross("arm", [Condition(name="one", overrides=("runs.arm.rl.steps=3",))], [Arm(name="grpo")], [0])
    with pytest.raises(ValueError, match="holds a run with other settings"):
        run_cells(registry, other, root, workers=1)
    assert json.loads((cells[0].folder(root) / "results.json").read_text())["stages"][0]["steps"] == 2
