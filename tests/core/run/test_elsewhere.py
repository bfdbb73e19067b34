"""Recipes build in another process what the run builds in its own, from plugins of the same versions."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tumbler.contracts.execution import ComponentRecipe, Engines, PlacedRole, RolloutRequest
from tumbler.contracts.inference import Sampling
from tumbler.errors import RunError
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun
from tumbler.run.assembly import build_backends, environment_key
from tumbler.run.elsewhere import PlacedComponent, PlacedEpisodes, distributed_by, place_engines
from tumbler.testing import sample_task

Resolve = Callable[..., ResolvedRun]


def component(resolved: ResolvedRun, host: PluginHost, role: PlacedRole) -> PlacedComponent:
    recipe = PlacedComponent(run=resolved.to_json(), versions=host.versions(), role=role, resume="again")
    copy: PlacedComponent = pickle.loads(pickle.dumps(recipe))
    return copy


class Far:
    """An execution backend that runs all but the trainer elsewhere, and tells what it was given."""

    def __init__(self, distributed: bool) -> None:
        self.distributed = distributed
        self.recipes: list[ComponentRecipe] = []

    async def place(self, recipe: ComponentRecipe) -> object | None:
        self.recipes.append(recipe)
        return None if recipe.role == "training" else recipe

    async def start_workers(self, recipe: Any, engines: Engines) -> None: ...


def test_a_component_is_built_as_the_run_builds_it(resolve: Resolve, host: PluginHost) -> None:
    resolved = resolve("runs.small.backends.inference={use='fake/scripted', tokenizer='other'}")
    built: Any = component(resolved, host, "inference").build()
    assert built.tokenizer.fingerprint == "other"
    trainer: Any = component(resolved, host, "training").build()
    assert trainer.version == 0


def test_a_role_that_the_run_does_not_name_is_refused(resolve: Resolve, host: PluginHost) -> None:
    with pytest.raises(RunError, match="names nothing for the role 'teacher'"):
        component(resolve(), host, "teacher").build()


def test_a_plugin_of_another_version_is_refused_with_both(resolve: Resolve, host: PluginHost) -> None:
    other = {**host.versions(), "fake": ("tumbler-fake-run", "0.9")}
    recipe = replace(component(resolve(), host, "inference"), versions=other)
    with pytest.raises(RunError, match=r"fake is tumbler-fake-run 1.0 here and tumbler-fake-run 0.9 there"):
        recipe.build()


def test_a_plugin_that_is_missing_is_refused(resolve: Resolve, host: PluginHost, site: Path) -> None:
    recipe = component(resolve(), host, "inference")
    (site / "tumbler_fake_run-1.0.dist-info" / "entry_points.txt").unlink()
    with pytest.raises(RunError, match=r"fake is not loaded here and tumbler-fake-run 1.0 there"):
        recipe.build()


def test_the_algorithm_that_is_handed_to_a_trainer_is_compared_too(resolve: Resolve, host: PluginHost) -> None:
    other = {**host.versions(), "grpo": ("tumbler", "0.0")}
    recipe = replace(component(resolve("runs.small.algorithm='grpo'"), host, "training"), versions=other)
    with pytest.raises(RunError, match=r"grpo is tumbler .* here and tumbler 0.0 there"):
        recipe.build()


def test_the_version_of_a_plugin_that_the_run_does_not_use_is_of_no_account(resolve: Resolve, host: PluginHost) -> None:
    other = {**host.versions(), "terminal": ("tumbler", "0.0")}
    assert replace(component(resolve(), host, "inference"), versions=other).build() is not None


async def test_episodes_run_with_the_engines_that_are_handed_over(resolve: Resolve, host: PluginHost) -> None:
    resolved = resolve()
    recipe = pickle.loads(pickle.dumps(PlacedEpisodes(run=resolved.to_json(), versions=host.versions())))
    engine: Any = component(resolved, host, "inference").build()
    async with recipe.open(Engines(policy=engine)) as runner:
        trajectory = await runner(
            RolloutRequest(
                id="one",
                task=sample_task(),
                seed=1,
                group="group",
                sampling=Sampling(),
                env=environment_key(resolved.env),
            )
        )
    assert trajectory.status == "completed"
    assert len(engine.requests) == len(trajectory.chunks)
    assert {each.split("/")[0] for each in engine.released} == {"one"}


async def test_engines_are_placed_only_by_a_backend_that_is_distributed(
    resolve: Resolve, host: PluginHost, tmp_path: Path
) -> None:
    resolved = resolve()
    backends = build_backends(resolved, host)
    near, far = Far(False), Far(True)
    kept = replace(backends, execution=near)  # type: ignore[arg-type]  # no rollout is submitted
    assert await place_engines(kept, resolved, host, folder=tmp_path) is kept
    assert distributed_by(near) is None  # type: ignore[arg-type]  # see above
    placed = await place_engines(replace(backends, execution=far), resolved, host, folder=tmp_path)  # type: ignore[arg-type]  # see above
    assert [each.role for each in far.recipes] == ["inference", "training"]
    assert placed.inference is far.recipes[0]
    assert placed.training is backends.training
    assert placed.teacher is None
    assert {each.resume for each in far.recipes} == {f"tumbler run --resume {tmp_path}"}
