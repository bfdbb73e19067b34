"""The metrics journal: what is appended is what is read, also after crashes and resumes."""

import json
import math
from dataclasses import replace

from tumbler.observers import RunInfo, StepMetrics
from tumbler_backends.observers.jsonl.journal import FILE_NAME, SAMPLE_LIMIT, read_metrics, read_stage_results
from tumbler_backends.observers.jsonl.plugin import tumbler_stage_finished, tumbler_step_finished


def take_step(run: RunInfo, step: int, loss: float, stage: int = 0) -> None:
    tumbler_step_finished(run, run.stages[stage], StepMetrics(step=step, values={"train/loss": loss}))


def losses(run: RunInfo) -> list[tuple[str, int, float]]:
    return [(each.stage, each.step, each.values["train/loss"]) for each in read_metrics(run.folder)]


def test_each_step_is_one_line_with_its_stage_and_attempt(bare_run: RunInfo) -> None:
    take_step(bare_run, 0, 2.0)
    take_step(bare_run, 1, 1.5)
    lines = [json.loads(line) for line in (bare_run.folder / FILE_NAME).read_text().splitlines()]
    assert [(line["attempt"], line["stage"], line["kind"], line["step"]) for line in lines] == [
        ("p1", "1-sft", "sft", 0),
        ("p1", "1-sft", "sft", 1),
    ]
    assert lines[0]["time"] > 0
    assert losses(bare_run) == [("1-sft", 0, 2.0), ("1-sft", 1, 1.5)]


def test_a_step_taken_again_after_a_resume_counts_once_as_last_taken(bare_run: RunInfo) -> None:
    for step in range(3):
        take_step(bare_run, step, 2.0 - step)
    resumed = replace(bare_run, id="p2", resumed=True)
    take_step(resumed, 1, 7.0)
    take_step(resumed, 2, 8.0)
    assert losses(bare_run) == [("1-sft", 0, 2.0), ("1-sft", 1, 7.0), ("1-sft", 2, 8.0)]


def test_steps_that_a_resume_set_back_are_left_out_until_taken_again(bare_run: RunInfo) -> None:
    for step in range(4):
        take_step(bare_run, step, 1.0)
    take_step(replace(bare_run, id="p2"), 2, 5.0)
    assert losses(bare_run) == [("1-sft", 0, 1.0), ("1-sft", 1, 1.0), ("1-sft", 2, 5.0)]


def test_a_resume_in_one_stage_leaves_the_others_alone(bare_run: RunInfo) -> None:
    take_step(bare_run, 0, 1.0)
    take_step(bare_run, 1, 1.0)
    take_step(replace(bare_run, id="p2"), 0, 3.0, stage=2)
    assert losses(bare_run) == [("1-sft", 0, 1.0), ("1-sft", 1, 1.0), ("3-rl", 0, 3.0)]


def test_a_torn_last_line_is_skipped_and_does_not_swallow_the_next(bare_run: RunInfo) -> None:
    take_step(bare_run, 0, 1.0)
    with (bare_run.folder / FILE_NAME).open("ab") as file:
        file.write(b'{"attempt":"p1","stage":"1-sft","step":1,"val\xc3')
    assert losses(bare_run) == [("1-sft", 0, 1.0)]
    take_step(replace(bare_run, id="p2"), 1, 4.0)
    assert losses(bare_run) == [("1-sft", 0, 1.0), ("1-sft", 1, 4.0)]


def test_values_that_are_not_finite_are_null_in_the_file_and_nan_for_readers(bare_run: RunInfo) -> None:
    take_step(bare_run, 0, math.inf)
    assert '"train/loss":null' in (bare_run.folder / FILE_NAME).read_text()
    assert math.isnan(read_metrics(bare_run.folder)[0].values["train/loss"])


def test_samples_are_bounded_and_keep_their_spread(bare_run: RunInfo) -> None:
    values = [*(float(value) for value in reversed(range(10_001))), math.nan]
    tumbler_step_finished(
        bare_run, bare_run.stages[2], StepMetrics(step=0, values={}, samples={"ipa/chunk_ratio": values})
    )
    kept = read_metrics(bare_run.folder)[0].samples["ipa/chunk_ratio"]
    assert len(kept) == SAMPLE_LIMIT
    assert (kept[0], kept[-1]) == (0.0, 10_000.0)
    assert abs(kept[len(kept) // 2] - 5_000) < 30


def test_the_last_result_of_each_stage_is_kept(bare_run: RunInfo) -> None:
    sft, evaluation = bare_run.stages[:2]
    tumbler_stage_finished(bare_run, sft, {"label": "1-sft", "steps": 1})
    tumbler_stage_finished(bare_run, evaluation, {"label": "2-eval"})
    tumbler_stage_finished(bare_run, sft, {"label": "1-sft", "steps": 2})
    assert read_stage_results(bare_run.folder) == ({"label": "1-sft", "steps": 2}, {"label": "2-eval"})


def test_a_folder_without_a_journal_has_no_steps(bare_run: RunInfo) -> None:
    assert read_metrics(bare_run.folder) == ()
    assert read_stage_results(bare_run.folder) == ()
