"""The canary that the trl training backend sends with its weights: theirs, with TRL's trainers over the model."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from tumbler.contracts.batch import CreditedTrajectory
from tumbler_algorithms.grpo.algorithm import GRPO
from tumbler_algorithms.grpo.settings import GRPOSettings
from tumbler_backends.inference.tolerances import canary_problem
from tumbler_backends.inference.transformers.weights import put_weights


@pytest.fixture
def rollouts(trajectory) -> list[CreditedTrajectory]:
    chunks = [{"segment": 0, "start": 3, "end": 6}, {"segment": 0, "start": 8, "end": 11}]
    records = [trajectory(f"t{index}", segments=(13,), chunks=chunks, seed=index) for index in range(3)]
    return [
        CreditedTrajectory(trajectory=record, credits=(advantage,) * 2)
        for record, advantage in zip(records, (1.0, -0.5, 0.25), strict=True)
    ]


def problem_of(model, update):
    """Return what is wrong with the update's canary under the model's weights."""
    ids = torch.tensor([update.canary.token_ids])
    with torch.no_grad():
        logprobs = model(ids).logits[0, :-1].float().log_softmax(-1)
    found = logprobs.gather(1, ids[0, 1:, None]).squeeze(1).tolist()
    dtype = str(model.dtype).removeprefix("torch.")
    return canary_problem(update.canary, found, dtype=dtype, tolerance=None)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
async def test_it_is_that_of_the_published_weights_in_either_phase(
    architecture, dtype, start_trl, mixed_batch, rollouts, folder_of
):
    steep = {"learning_rate": 3e-2}
    backend = await start_trl("sft", architecture=architecture, dtype=dtype, sft=steep, rl=steep)
    served = AutoModelForCausalLM.from_pretrained(folder_of(architecture)).eval()
    put_weights(served, backend.weights())
    for phase in ("sft", "rl"):
        if phase == "sft":
            await backend.fit_sft(mixed_batch)
        else:
            backend.begin("rl", optimizer_steps=4)
            await backend.step(rollouts, GRPO(GRPOSettings(epochs=2)))
        update = backend.weights()
        assert update.canary.dtype == dtype
        assert problem_of(served, update), "the weights before the step are noticed"
        put_weights(served, update)
        assert problem_of(served, update) == ""
