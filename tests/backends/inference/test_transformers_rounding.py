"""Weights rounded to few bits: the grid, and a backend that serves it from the start and after each update."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from tumbler.contracts.inference import WeightUpdate
from tumbler_backends.inference.transformers.rounding import rounded


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_each_row_keeps_its_largest_weight_and_few_values(bits):
    weight = torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
    weight[3] = 0.0
    grid = rounded(weight, bits)
    assert all(len(row.unique()) <= 2**bits - 1 for row in grid)
    torch.testing.assert_close(grid.abs().amax(1), weight.abs().amax(1))
    steps = weight.abs().amax(1, keepdim=True) / (2 ** (bits - 1) - 1)
    assert ((grid - weight).abs() <= steps / 2 + 1e-6).all()
    torch.testing.assert_close(rounded(grid, bits), grid)


def test_vectors_and_zero_bits_change_nothing():
    vector, weight = torch.randn(7), torch.randn(2, 3)
    assert rounded(vector, 4) is vector
    assert rounded(weight, 0) is weight


async def test_a_rounded_policy_is_what_the_backend_serves(tmp_path, write_model, serve, ask, assert_faithful):
    first, second = write_model(tmp_path / "first", seed=1), write_model(tmp_path / "second", seed=2)
    grids = []
    for folder in (first, second):
        model = AutoModelForCausalLM.from_pretrained(folder)
        for parameter in model.parameters():
            parameter.data = rounded(parameter.data, 4)
        grids.append(tmp_path / f"{folder.name}-rounded")
        model.save_pretrained(grids[-1])
    backend = await serve(first, weight_bits=4)
    prompt = [7, 8, 9, 10]
    assert_faithful(grids[0], prompt, await backend.generate(ask(prompt)))
    await backend.update_weights(WeightUpdate(version=1, folder=second))
    assert_faithful(grids[1], prompt, await backend.generate(ask(prompt)))
    exact = AutoModelForCausalLM.from_pretrained(second).state_dict()
    await backend.update_weights(WeightUpdate(version=2, tensors=exact.items))
    reply = await backend.generate(ask(prompt))
    assert_faithful(grids[1], prompt, reply)
    with pytest.raises(AssertionError):
        assert_faithful(second, prompt, reply)
