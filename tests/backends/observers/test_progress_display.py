"""The progress display: live on a terminal, lines elsewhere, a summary at the end, and nothing left behind."""

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from rich.console import Console

from tumbler.contracts.values import JSONObject
from tumbler.observers import RunInfo, StepMetrics
from tumbler.trajectory import Trajectory
from tumbler_backends.observers.progress import plugin
from tumbler_backends.observers.progress.board import Board
from tumbler_backends.observers.progress.display import Display
from tumbler_backends.observers.progress.state import RunProgress
from tumbler_backends.observers.progress.summary import print_summary


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def console(*, width: int = 100, terminal: bool = False, no_color: bool | None = None) -> Console:
    return Console(
        file=io.StringIO(), width=width, force_terminal=terminal, no_color=no_color, _environ={"TERM": "xterm"}
    )


def written(shown: Console) -> str:
    assert isinstance(shown.file, io.StringIO)
    return shown.file.getvalue()


def drawn(progress: RunProgress, width: int = 100) -> str:
    page = console(width=width)
    page.print(Board(progress))
    return written(page)


def results(run: RunInfo) -> JSONObject:
    parsed: JSONObject = json.loads((run.folder / "results.json").read_text())
    return parsed


def step(number: int, **values: float) -> StepMetrics:
    return StepMetrics(step=number, values={name.replace("__", "/"): value for name, value in values.items()})


def test_the_board_shows_finished_running_and_waiting_stages(finished_run: RunInfo) -> None:
    clock = Clock()
    progress = RunProgress(finished_run, clock)
    sft, evaluation, rl, _ = finished_run.stages
    progress.start_stage(sft)
    progress.finish_step(sft, step(119, train__loss=0.25))
    clock.now += 65
    progress.finish_stage(sft, {})
    progress.start_stage(evaluation)
    progress.finish_stage(
        evaluation, {"envs": {"trail": {"success_rate": 0.42, "wilson_low": 0.35, "wilson_high": 0.49}}}
    )
    progress.start_stage(rl)
    clock.now += 20
    progress.finish_step(rl, step(9, rollout__success=0.5))
    lines = drawn(progress).splitlines()
    assert lines[0] == "tumbler quickstart  0:01:25"
    assert re.fullmatch(r"✓ 1-sft +loss 0.25 +0:01:05", lines[1])
    assert re.fullmatch(r"✓ 2-eval +trail 42 % \[35, 49\] +0:00:00", lines[2])
    assert "3-rl" in lines[3] and "10/40 steps" in lines[3]
    assert re.fullmatch(r"· 4-eval +200 episodes", lines[4])
    assert "success 50 %" in lines[5]


def test_the_time_left_counts_only_what_this_process_did(finished_run: RunInfo) -> None:
    clock = Clock()
    progress = RunProgress(finished_run, clock)
    rl = finished_run.stages[2]
    stage = progress.start_stage(rl)
    assert stage.remaining(clock()) is None
    clock.now += 4
    progress.finish_step(rl, step(30))
    progress.finish_step(rl, step(31))
    assert stage.remaining(clock()) == pytest.approx(2.0 * 8)


def test_stages_of_an_earlier_process_are_done(finished_run: RunInfo) -> None:
    progress = RunProgress(replace(finished_run, resumed=True), Clock())
    progress.start_stage(finished_run.stages[2])
    lines = drawn(progress).splitlines()
    assert "resumed" in lines[0]
    assert "done earlier" in lines[1] and "done earlier" in lines[2]


def test_an_evaluation_advances_by_judged_episodes(
    finished_run: RunInfo, make_trajectory: Callable[..., Trajectory]
) -> None:
    progress = RunProgress(finished_run, Clock())
    evaluation = finished_run.stages[1]
    stage = progress.start_stage(evaluation)
    for success in (True, False, None):
        progress.finish_trajectory(evaluation, make_trajectory(evaluation, success))
    assert (stage.done, stage.infra_failed, stage.success) == (2, 1, 0.5)


def test_the_demonstrations_of_an_expert_are_no_success_of_the_policy(
    finished_run: RunInfo, make_trajectory: Callable[..., Trajectory]
) -> None:
    progress = RunProgress(finished_run, Clock())
    sft = finished_run.stages[0]
    stage = progress.start_stage(sft)
    progress.finish_trajectory(sft, make_trajectory(sft, True))
    assert (stage.episodes, stage.success) == (1, None)


@pytest.mark.parametrize("width", [20, 50, 120])
def test_the_board_never_exceeds_the_terminal(finished_run: RunInfo, width: int) -> None:
    progress = RunProgress(finished_run, Clock())
    rl = finished_run.stages[2]
    progress.start_stage(rl)
    progress.finish_step(rl, step(3, rollout__success=0.5, train__loss=0.1, rollout__reward=1.0))
    assert all(len(line) <= width for line in drawn(progress, width).splitlines())


def test_elsewhere_lines_are_written_at_stage_ends_and_now_and_then(finished_run: RunInfo) -> None:
    clock, errors, output = Clock(), console(), console()
    display = Display(finished_run, errors=errors, output=output, clock=clock)
    rl = finished_run.stages[2]
    display.start()
    display.start_stage(rl)
    for number in range(40):
        clock.now += 3
        display.finish_step(rl, step(number, rollout__success=0.75))
    display.finish_stage(rl, {})
    lines = written(errors).splitlines()
    assert lines[0] == f"[0:00:00] quickstart: started in {finished_run.folder}"
    assert lines[1] == "[0:00:00] 3-rl: started, 40 steps"
    assert lines[2] == "[0:00:12] 3-rl: 4/40 steps, success 75 %, 0:01:48 left"
    assert lines[-1] == "[0:02:00] 3-rl: done in 0:02:00, success 75 %"
    assert len(lines) == 3 + 10
    assert written(output) == ""


def test_the_live_display_gives_the_terminal_back(finished_run: RunInfo) -> None:
    errors, output = console(terminal=True), console()
    display = Display(finished_run, errors=errors, output=output)
    display.start()
    display.start_stage(finished_run.stages[0])
    display.finish_stage(finished_run.stages[0], {})
    display.finish(results(finished_run))
    display.stop()
    shown = written(errors)
    assert "1-sft" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert "Held-out success rose from 42 % [35, 49] to 93 % [89, 96]." in written(output)
    assert "\x1b" not in written(output)


def test_the_cursor_is_never_left_hidden_while_the_run_goes_on(finished_run: RunInfo) -> None:
    errors = console(terminal=True)
    display = Display(finished_run, errors=errors, output=console())
    display.start()
    try:
        assert written(errors).rindex("\x1b[?25h") > written(errors).rindex("\x1b[?25l")
    finally:
        display.stop()


def test_no_color_is_respected(finished_run: RunInfo) -> None:
    page = console(terminal=True, no_color=True)
    print_summary(page, "quickstart", finished_run.folder, results(finished_run))
    assert not re.search(r"\x1b\[[\d;]*3[0-9]", written(page))


def test_the_summary_has_each_evaluation_and_the_paths_in_one_piece(finished_run: RunInfo) -> None:
    (finished_run.folder / "report.html").touch()
    page = console(width=80)
    print_summary(page, "quickstart", finished_run.folder, results(finished_run))
    lines = written(page).splitlines()
    assert lines[0] == "✓ quickstart finished in 0:17:23, 160 optimizer steps"
    table = [" ".join(line.split()) for line in lines]
    assert "trail after 1-sft 42 % [35, 49] 84/200 7.2 2" in table
    assert "trail after 3-rl 93 % [89, 96] 186/200 4.7 0" in table
    assert lines[-2:] == [
        f"report  {finished_run.folder / 'report.html'}",
        f"results {finished_run.folder / 'results.json'}",
    ]


def test_the_summary_of_a_run_without_evaluations_is_short(bare_run: RunInfo) -> None:
    page = console()
    print_summary(page, "bare", bare_run.folder, {"seconds": 3.0, "optimizer_steps": 2, "stages": []})
    assert written(page).split("\n")[:2] == ["✓ bare finished in 0:00:03, 2 optimizer steps", ""]


def test_names_from_elsewhere_are_not_read_as_markup(finished_run: RunInfo) -> None:
    odd = replace(finished_run, name="[bold]x[/bold]")
    assert drawn(RunProgress(odd, Clock())).startswith("tumbler [bold]x[/bold]")


@pytest.mark.parametrize("value", ["off", "0", "False"])
def test_the_environment_turns_it_off(
    finished_run: RunInfo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    monkeypatch.setenv("TUMBLER_PROGRESS", value)
    plugin.tumbler_run_started(finished_run)
    plugin.tumbler_stage_started(finished_run, finished_run.stages[0])
    plugin.tumbler_run_finished(finished_run, results(finished_run))
    assert capsys.readouterr() == ("", "")


def test_progress_goes_to_stderr_and_the_summary_to_stdout(
    finished_run: RunInfo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TUMBLER_PROGRESS", raising=False)
    plugin.tumbler_run_started(finished_run)
    plugin.tumbler_stage_started(finished_run, finished_run.stages[0])
    plugin.tumbler_step_finished(finished_run, finished_run.stages[0], step(0))
    plugin.tumbler_stage_finished(finished_run, finished_run.stages[0], {})
    plugin.tumbler_run_finished(finished_run, results(finished_run))
    out, err = capsys.readouterr()
    assert "finished in" in out and "started" not in out
    assert "1-sft: started" in err and "finished in" not in err


def test_a_new_run_closes_the_display_of_one_that_failed(
    finished_run: RunInfo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("TUMBLER_PROGRESS", raising=False)
    plugin.tumbler_run_started(finished_run)
    plugin.tumbler_run_started(replace(finished_run, id="p2"))
    plugin.tumbler_run_finished(finished_run, results(finished_run))
    assert capsys.readouterr().out == "", "the failed run is forgotten"
    plugin.tumbler_run_finished(replace(finished_run, id="p2"), results(finished_run))
    assert "finished in" in capsys.readouterr().out
