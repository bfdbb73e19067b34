"""The report: one well-formed page that loads nothing, says what the files say, and needs none of them."""

import base64
import hashlib
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tumbler.observers import RunInfo, StepMetrics
from tumbler.trajectory import Trajectory, trajectory_to_json
from tumbler_backends.observers.jsonl.journal import append_step
from tumbler_backends.observers.report.plugin import tumbler_report, tumbler_run_finished, tumbler_stage_finished
from tumbler_backends.observers.report.selection import outcome_of, select_trajectories
from tumbler_backends.observers.report.source import read_run_source

VOID = {"meta", "input", "br", "link", "img"}


class Page(HTMLParser):
    """A strict reader: every tag is closed in order; text is kept by the tags around it."""

    def __init__(self, markup: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(markup)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def text(self, *tags: str) -> str:
        return "\n".join(data for tag, data in self.texts if not tags or tag in tags)

    def count(self, tag: str, class_: str = "") -> int:
        return sum(
            name == tag and (not class_ or class_ in (attrs.get("class") or "").split()) for name, attrs in self.tags
        )


def report(folder: Path) -> Page:
    return Page(tumbler_report(folder).read_text(encoding="utf-8"))


def test_the_page_is_well_formed_and_loads_nothing(finished_run: RunInfo) -> None:
    page = report(finished_run.folder)
    loading = [
        (tag, name)
        for tag, attrs in page.tags
        for name in attrs
        if name in ("src", "href", "srcset", "action", "style")
    ]
    assert loading == []
    styles = page.text("style")
    assert "url(" not in styles and "@import" not in styles
    assert {tag for tag, _ in page.tags}.isdisjoint({"iframe", "object", "embed", "link", "base", "img"})


def test_the_figures_are_those_of_the_results(finished_run: RunInfo) -> None:
    page = report(finished_run.folder)
    assert "Held-out success rose from 42 % [35, 49] to 93 % [89, 96]." in page.text("p")
    cells = page.text("td", "strong").split("\n")
    for figure in ("42.0 %", "93.0 %", "84 / 200", "186 / 200", "+51.0 pp", "35.4 to 48.9", "88.6 to 95.8"):
        assert figure in cells
    assert {"160", "17 min 24 s", "tumbler 0.1.0, tumbler-maze 2.4"} <= set(page.text("dd").split("\n"))


def test_every_measured_metric_is_plotted_also_unknown_ones(finished_run: RunInfo) -> None:
    page = report(finished_run.folder)
    sources = {
        name.strip()
        for tag, attrs in page.tags
        if tag == "span" and attrs.get("class") == "chart-title"
        for name in (attrs["title"] or "").split(",")
    }
    source = read_run_source(finished_run.folder)
    assert {name for step in source.steps for name in (*step.values, *step.samples)} <= sources
    assert "Curriculum" in page.text("h3")


def test_success_by_anchor_and_both_histograms_have_plots_of_their_own(finished_run: RunInfo) -> None:
    page = report(finished_run.folder)
    shown = page.text("span").splitlines()
    for title in ("Success by anchor", "Chunk importance ratios", "Engine mismatch of the chunks", "Refused groups"):
        assert shown.count(title) == 1
    assert "last quarter" in shown
    assert "first quarter" not in shown, "no rollout began there"


def test_tooltips_hold_the_values_of_the_steps(finished_run: RunInfo) -> None:
    page = report(finished_run.folder)
    last = read_run_source(finished_run.folder).steps[-1]
    assert f"step 39\nsuccess {100 * last.values['rollout/success']:.1f} %" in page.text("title")


def test_hostile_text_is_shown_and_never_becomes_markup(finished_run: RunInfo) -> None:
    path = tumbler_report(finished_run.folder)
    page = Page(path.read_text(encoding="utf-8"))
    assert page.count("script") == 1
    assert not any(name.startswith("on") for _, attrs in page.tags for name in attrs)
    shown = "<script>alert(1)</script> ]]> </script><img src=x onerror=alert(2)> \ufffd \\u202e\\x1b[31m"
    assert shown in page.text("pre")
    assert not re.search("[\u202e\x1b]", path.read_text(encoding="utf-8"))


def test_the_page_allows_its_own_script_and_no_other(finished_run: RunInfo) -> None:
    page = report(finished_run.folder)
    digest = base64.b64encode(hashlib.sha256(page.text("script").encode()).digest()).decode()
    [policy] = [attrs["content"] for _, attrs in page.tags if attrs.get("http-equiv") == "Content-Security-Policy"]
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


@pytest.mark.parametrize("missing", ["run.json", "results.json", "metrics.jsonl", "stages", "everything"])
def test_any_piece_may_be_missing(finished_run: RunInfo, missing: str) -> None:
    for path in finished_run.folder.iterdir():
        if missing in (path.name, "everything"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = report(finished_run.folder)
    assert page.count("h1") == 1
    assert page.count("figure") == (0 if missing in ("metrics.jsonl", "everything") else page.count("figure", "chart"))
    assert (page.count("details", "trajectory") == 0) == (missing in ("stages", "everything"))


def test_an_unfinished_run_says_so_and_shows_what_is_known(finished_run: RunInfo) -> None:
    (finished_run.folder / "results.json").unlink()
    page = report(finished_run.folder)
    assert "not finished" in page.text("span")
    assert "rose from 42 % [35, 49] to 93 % [89, 96]" in page.text("p"), "the journal has the stages' results"


def test_the_state_tells_of_finished_stages_without_a_journal(finished_run: RunInfo) -> None:
    results = json.loads((finished_run.folder / "results.json").read_text())
    (finished_run.folder / "results.json").unlink()
    (finished_run.folder / "metrics.jsonl").unlink()
    (finished_run.folder / "state.json").write_text(
        json.dumps({"results": results["stages"][:2], "optimizer_steps": 120})
    )
    page = report(finished_run.folder)
    assert "Held-out success is 42 % [35, 49]." in page.text("p")
    assert "120" in page.text("dd").split("\n")


def test_torn_and_foreign_trajectory_lines_are_skipped(finished_run: RunInfo) -> None:
    path = finished_run.folder / "stages" / "3-rl" / "trajectories.jsonl"
    with path.open("ab") as file:
        file.write(b'{"header": {}}\n[1]\n{"header": {"id": "x"')
    stored = [each for each in read_run_source(finished_run.folder).trajectories if each.stage == "3-rl"]
    assert len(stored) == 40


def test_an_episode_run_again_after_a_crash_is_shown_once(
    finished_run: RunInfo, make_trajectory: Callable[..., Trajectory]
) -> None:
    path = finished_run.folder / "stages" / "3-rl" / "trajectories.jsonl"
    again = json.dumps(trajectory_to_json(make_trajectory(finished_run.stages[2], True, number=0)))
    with path.open("a") as file:
        file.write(again + "\n")
    stored = [each for each in read_run_source(finished_run.folder).trajectories if each.stage == "3-rl"]
    assert len(stored) == 40


def test_the_sample_has_early_and_late_ones_of_each_outcome(finished_run: RunInfo) -> None:
    chosen = [
        each for each in select_trajectories(read_run_source(finished_run.folder).trajectories) if each.stage == "3-rl"
    ]
    assert {(each.late, outcome_of(each)) for each in chosen} == {
        (late, outcome) for late in (False, True) for outcome in ("success", "failure", "no verdict")
    }
    assert chosen[0].position < 5 and chosen[-1].position > 34


def test_a_huge_run_makes_a_bounded_page(finished_run: RunInfo, make_trajectory: Callable[..., Trajectory]) -> None:
    stage = finished_run.stages[2]
    for label in ("3-rl", "4-eval"):
        with (finished_run.folder / "stages" / label / "trajectories.jsonl").open("a") as file:
            for number in range(100, 140):
                record = make_trajectory(stage, number % 2 == 0, number=number, turns=70)
                wordy = tuple(replace(chunk, observation="<word> " * 600) for chunk in record.chunks)
                file.write(json.dumps(trajectory_to_json(replace(record, chunks=wordy))) + "\n")
    for step in range(40, 2000):
        append_step(
            finished_run, stage, StepMetrics(step=step, values={"rollout/success": 0.5, "train/loss": step / 9})
        )
    path = tumbler_report(finished_run.folder)
    assert path.stat().st_size < 3_000_000
    markup = path.read_text(encoding="utf-8")
    Page(markup)
    before, _, last_stage = markup.partition('data-stage="4-eval"')
    assert "10 turns are left out here." in before
    assert "10 turns are left out here." in last_stage, "no stage takes the others' room"
    assert len(read_run_source(finished_run.folder).trajectories) < 4 * 40 + 80, "long files are read at their ends"


def test_each_finished_stage_and_run_rewrites_the_report(finished_run: RunInfo) -> None:
    path = finished_run.folder / "report.html"
    tumbler_stage_finished(finished_run)
    first = path.read_text(encoding="utf-8")
    (finished_run.folder / "results.json").unlink()
    tumbler_run_finished(finished_run)
    assert path.read_text(encoding="utf-8") != first
    assert not list(finished_run.folder.glob("*.part"))
