"""Requests that share a call of attention: which ones do, and that it changes nothing."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tumbler_backends.inference.transformers.lanes import find_lanes
from tumbler_backends.inference.transformers.loading import choose_runner, load_model
from tumbler_backends.inference.transformers.runner import Runner, Stretch
from tumbler_backends.inference.transformers.slots import Slot

LENGTHS = (30, 24, 41)
IN_STEP = ((0, 50), (150, 50), (50, 50))
"""Start and size; the lane at 100 is nobody's."""
APART = ((200, 42), (242, 43), (285, 44))


def stretch(slot: tuple[int, int], length: int, *, number: int = 0, new: int = 1) -> Stretch:
    """Return the last tokens of a sequence that differs from others by its number."""
    ids = [(31 * number + 7 * position) % 300 for position in range(length)]
    return Stretch(Slot(*slot), ids, length - new, wants_logits=True)


def members(*stretches: Stretch) -> list[tuple[int, ...]]:
    """Return which stretches share calls."""
    sizes = [len(each.token_ids) - each.start for each in stretches]
    return [lanes.members for lanes in find_lanes(stretches, sizes, torch.device("cpu"))]


def last_logits(runner: Runner, slots: Sequence[tuple[int, int]]) -> Tensor:
    """Compute sequences but for their last tokens, then those of all in one step, and return the logits after them."""
    cases = [(slot, length, number) for number, (slot, length) in enumerate(zip(slots, LENGTHS, strict=True))]
    with torch.inference_mode():
        runner.forward([stretch(slot, length - 1, number=number, new=length - 1) for slot, length, number in cases])
        return runner.forward([stretch(slot, length, number=number) for slot, length, number in cases]).clone()


@pytest.fixture
def make_runner(write_model: Callable[..., Path], tmp_path: Path) -> Callable[[str], tuple[torch.nn.Module, Runner]]:
    """Makes a model of a family and its runner."""

    def make(family: str) -> tuple[torch.nn.Module, Runner]:
        model = load_model(write_model(tmp_path / family, family), dtype="float32", device="cpu")
        with torch.inference_mode():
            return model, choose_runner(model, 400)

    return make


def test_slots_of_one_size_that_lie_in_step_are_lanes_in_the_order_of_the_pool():
    assert members(stretch((40, 20), 9), stretch((0, 20), 8), stretch((20, 20), 7)) == [(1, 2, 0)]


@pytest.mark.parametrize("other", [(20, 30), (25, 20), (100, 20)], ids=["larger", "out of step", "far away"])
def test_a_slot_that_is_not_in_step_has_a_call_of_its_own(other):
    assert members(stretch((0, 20), 8), stretch(other, 8)) == []


def test_a_request_with_more_new_tokens_has_a_call_of_its_own():
    assert members(stretch((0, 20), 8), stretch((20, 20), 8, new=2)) == []


def test_short_requests_do_not_read_as_much_as_a_long_one():
    assert members(stretch((0, 90), 90), *(stretch((90 * lane, 90), 4) for lane in (1, 2, 3))) == []


@pytest.mark.parametrize("family", ["llama", "qwen2", "mistral", "gemma3"])
def test_requests_in_lanes_get_the_logits_that_they_get_alone(family, make_runner):
    assert members(*(stretch(slot, length) for slot, length in zip(IN_STEP, LENGTHS, strict=True))) == [(0, 2, 1)]
    assert members(*(stretch(slot, length) for slot, length in zip(APART, LENGTHS, strict=True))) == []
    _, runner = make_runner(family)
    torch.testing.assert_close(last_logits(runner, IN_STEP), last_logits(runner, APART), atol=1e-4, rtol=0)


def test_what_diverged_weights_left_in_the_pool_spoils_no_request(make_runner):
    model, runner = make_runner("llama")
    expected = last_logits(runner, APART)
    healthy = {name: weight.clone() for name, weight in model.state_dict().items()}
    with torch.no_grad():
        model.get_parameter("model.layers.0.self_attn.v_proj.weight").fill_(torch.nan)
    # Longer than what follows in the same place, so that its values stay behind the others' tokens.
    with torch.inference_mode():
        runner.forward([stretch(slot, 50, new=50) for slot in IN_STEP])
    model.load_state_dict(healthy)
    torch.testing.assert_close(last_logits(runner, IN_STEP), expected, atol=1e-4, rtol=0)
    runner.forget()
    torch.testing.assert_close(last_logits(runner, IN_STEP), expected, atol=1e-4, rtol=0)
