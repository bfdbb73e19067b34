"""Training takes trajectories of the run's own agent and context strategies, and refuses all others."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tumbler.errors import RunError
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun, load_registry, resolve_run
from tumbler.run.command import resume_run, start_run
from tumbler.run.provenance import Makers
from tumbler.testing import sample_trajectory
from tumbler.trajectory import Component

Resolve = Callable[..., ResolvedRun]
Interrupt = Callable[[ResolvedRun, Path, PluginHost, int], None]
OTHER = Component(id="another", version="9", settings_hash="0123456789ab")


def change(path: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    """Edit each JSON object of a file."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    for line in lines:
        edit(line)
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))


def newest_journal(folder: Path) -> Path:
    return max(folder.glob("stages/*/trajectories.jsonl"))


@pytest.mark.parametrize(
    ("part", "told"),
    [
        ({"agent": {"id": "react", "version": "0", "settings_hash": "abc"}}, r"agent react 0 \(settings abc\) with"),
        (
            {"context": [{"id": "window", "version": "1.2", "settings_hash": "def"}]},
            r"strategies window 1\.2 \(settings",
        ),
    ],
)
def test_a_journal_with_anothers_trajectories_is_not_gone_on_from(
    resolve: Resolve, host: PluginHost, tmp_path: Path, interrupt: Interrupt, part: dict[str, Any], told: str
) -> None:
    resolved = resolve()
    interrupt(resolved, tmp_path / "run", host, 27)
    change(newest_journal(tmp_path / "run"), lambda line: line["header"].update(part))
    with pytest.raises(RunError, match=f"was made by .*{told}.* and the run trains agent react"):
        resume_run(tmp_path / "run", host)


def test_an_interrupted_run_with_its_own_trajectories_goes_on(
    resolve: Resolve, host: PluginHost, tmp_path: Path, interrupt: Interrupt
) -> None:
    interrupt(resolve(), tmp_path / "run", host, 27)
    assert resume_run(tmp_path / "run", host)["optimizer_steps"] == 12


@pytest.mark.parametrize("kind", ["agent", "context"])
def test_a_run_does_not_go_on_with_another_version_of_its_scaffold(
    resolve: Resolve, host: PluginHost, tmp_path: Path, interrupt: Interrupt, kind: str
) -> None:
    resolved = resolve('runs.small.agent={ use = "react", context = ["none"] }')
    interrupt(resolved, tmp_path / "run", host, 3)
    path = tmp_path / "run" / "run.json"
    record = json.loads(path.read_text())
    (record["agent"] if kind == "agent" else record["context"][0])["version"] = "0.0.1"
    path.write_text(json.dumps(record))
    with pytest.raises(RunError, match=r"was 0\.0\.1 and is .* now"):
        resume_run(tmp_path / "run", host)


def test_a_repeated_run_says_which_version_it_was_really_made_with(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    resolved = resolve("runs.small.stages=['eval']")
    older = replace(resolved, agent=replace(resolved.agent, version="0.0.1"))
    start_run(older, tmp_path / "run", host)
    line = json.loads(newest_journal(tmp_path / "run").read_text().splitlines()[0])
    assert line["header"]["agent"]["version"] == resolved.agent.version


ELSEWHERE = '''
from dataclasses import replace

from tumbler import hookimpl
from tumbler.config import NoSettings
from tumbler.specs import BackendSpec
from tumbler.trajectory import Component


class Elsewhere:
    """Runs episodes with an agent of its own."""

    capacity = 4

    def __init__(self, settings):
        self._runner = None

    async def start(self, runner):
        self._runner = runner

    async def submit(self, request):
        made = await self._runner(request)
        other = Component(id="another", version="9", settings_hash="0123456789ab")
        return replace(made, header=replace(made.header, agent=other))

    async def health(self):
        return ()

    async def close(self):
        pass


@hookimpl
def tumbler_backends():
    return [
        BackendSpec(
            name="elsewhere",
            summary="Elsewhere.",
            load=lambda: Elsewhere,
            config=lambda: NoSettings,
            roles=("execution",),
        )
    ]
'''


@pytest.mark.parametrize("stages", [["sft"], ["rl"]])
def test_a_trajectory_that_arrives_from_another_agent_is_not_trained(
    site: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stages: Sequence[str]
) -> None:
    info = site / "tumbler_elsewhere-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: tumbler-elsewhere\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[tumbler.v1]\nother = tumbler_elsewhere\n")
    (site / "tumbler_elsewhere.py").write_text(ELSEWHERE)
    monkeypatch.syspath_prepend(str(site))
    host = PluginHost.load()
    overrides = ['runs.small.backends.execution="other/elsewhere"', f"runs.small.stages={list(stages)}"]
    resolved = resolve_run(load_registry(site / "registry.toml", overrides), "small", host)
    with pytest.raises(RunError, match=r"was made by agent another 9 \(settings 0123456789ab\) with no strategy, and"):
        start_run(resolved, tmp_path / "run", host)
    assert not list(tmp_path.glob("run/stages/*/trajectories.jsonl")), "it was written down"


def test_the_error_names_both_scaffolds_whole() -> None:
    own = Makers(agent=Component(id="react", version="1", settings_hash="a"), context=(OTHER,))
    with pytest.raises(RunError) as problem:
        own.require(sample_trajectory("t-1"))
    told = str(problem.value)
    assert "'t-1' was made by agent sample 0 (settings 0) with no strategy" in told
    assert "react 1 (settings a) with the context strategies another 9 (settings 0123456789ab)" in told
