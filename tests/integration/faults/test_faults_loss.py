"""A loss that is not a number, and a policy that has collapsed: the weights stay good, and the run says so."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tests.integration.faults.records import STAGE, completed, require_nothing_lost_or_twice, steps
from tests.integration.faults.runs import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def weights(model: Path) -> dict[str, torch.Tensor]:
    return load_file(model / "model.safetensors")


def newest(folder: Path) -> Path:
    state: Any = json.loads((folder / "state.json").read_text())
    return folder / state["checkpoint"] / "model"


def test_a_loss_that_is_not_a_number_ends_the_run_before_it_reaches_the_weights(site: Site) -> None:
    site.order("nan-2")
    site.start("torch", "backends.training={use='faults/torch', max_skipped_steps=0}")
    errors = site.fail()
    assert "the loss of 1 optimizer step(s) in a row was not finite" in errors
    assert "lower the learning rate" in errors
    assert f"in {STAGE}, when 2 steps were done" in errors
    kept = weights(newest(site.run))
    assert newest(site.run).parent.name == f"{STAGE}-2"
    assert all(each.isfinite().all() for each in kept.values())
    before = completed(site.run)
    site.lift("nan-2")
    site.resume()
    site.finish()
    require_nothing_lost_or_twice(site.run, before=before)
    trained = weights(newest(site.run))
    assert all(each.isfinite().all() for each in trained.values())
    assert any(not torch.equal(each, kept[name]) for name, each in trained.items())


def test_a_single_step_whose_loss_is_not_a_number_is_left_out(site: Site) -> None:
    site.order("nan-1")
    site.order("before-training-1")
    site.start("torch", "rl.steps=3")
    site.until_reached("before-training-1")
    before = weights(newest(site.run))
    site.order("before-saving-1")
    site.lift("before-training-1")
    site.until_reached("before-saving-1")
    site.lift("nan-1")
    site.order("before-training-1")
    site.lift("before-saving-1")
    site.wait_until(lambda: newest(site.run).parent.name == f"{STAGE}-2", "the next checkpoint was there")
    after = weights(newest(site.run))
    assert all(torch.equal(each, after[name]) for name, each in before.items())
    site.lift("before-training-1")
    site.finish()
    assert [line["optimizer_steps"] for line in steps(site.run)] == [1, 0, 1]
    assert all(each.isfinite().all() for each in weights(newest(site.run)).values())
    require_nothing_lost_or_twice(site.run, before=b"")


def test_a_collapsed_policy_ends_the_stage_with_a_warning_and_its_weights_as_they_were(site: Site) -> None:
    site.start("torch", "rl.steps=9", "rl.collapse_patience=3", "env='words'")
    said = site.finish()
    assert "no spread of rewards in 3 steps: the policy has collapsed or cannot start" in said
    results: Any = json.loads((site.run / "results.json").read_text())
    assert results["stages"][0]["steps"] == 3
    assert "no spread of rewards" in results["stages"][0]["stopped"]
    assert results["optimizer_steps"] == 0
    began, ended = weights(site.run / "model"), weights(newest(site.run))
    assert all(torch.equal(each, ended[name]) for name, each in began.items())
    require_nothing_lost_or_twice(site.run, before=b"")
