"""A run whose rollouts start in forks of prepared sandboxes, in real sandboxes."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tumbler.contracts.sandbox_control import Template
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun
from tumbler.run.command import start_run
from tumbler.run.journal import StageJournal
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings


def test_a_run_leaves_no_prepared_anchor(
    resolve: Callable[..., ResolvedRun], host: PluginHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = BubblewrapSettings(root=tmp_path / "sandboxes", cache=tmp_path / "cache")
    taken: list[str] = []
    snapshot = BubblewrapBackend.snapshot

    async def noted(backend: BubblewrapBackend, identity: str) -> Template:
        template = await snapshot(backend, identity)
        taken.append(template.id)
        return template

    monkeypatch.setattr(BubblewrapBackend, "snapshot", noted)
    resolved = resolve(
        "runs.small.stages=['rl']",
        "runs.small.rl={steps=1, anchors='fork'}",
        "runs.small.algorithm={use='fake/count', anchored=true}",
        "envs.trail={use='trail', steps=2}",
        "runs.small.env='trail'",
        "runs.small.limits.turns=12",
        f"runs.small.backends.sandbox={{use='bubblewrap', root='{settings.root}', cache='{settings.cache}'}}",
    )
    start_run(resolved, tmp_path / "run", host)
    rollouts = [each for each in StageJournal(tmp_path / "run/stages/1-rl").known().values() if each.header.anchor]
    assert [each.details["anchor_restored_by"] for each in rollouts] == ["fork"] * 6
    assert len(taken) == 2
    assert list(asyncio.run(BubblewrapBackend(settings).templates())) == []
