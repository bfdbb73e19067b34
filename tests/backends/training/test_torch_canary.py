"""The canary that the torch training backend sends with its weights: theirs, whatever they were trained with."""

import asyncio

import pytest
import torch
from transformers import AutoModelForCausalLM

from tumbler.contracts.batch import CreditedTrajectory
from tumbler_backends.inference.tolerances import canary_problem
from tumbler_backends.inference.transformers.weights import put_weights
from tumbler_backends.training.canary import canary_tokens
from tumbler_backends.training.torch.backend import TorchTraining
from tumbler_backends.training.torch.settings import LoraSettings, OptimizerSettings, TorchTrainingSettings

LORA = LoraSettings(rank=4, alpha=8, target_modules=("q_proj", "down_proj"), dropout=0.5)
STEEP = OptimizerSettings(learning_rate=3e-2)


@pytest.fixture
def credited(mixed_batch) -> list[CreditedTrajectory]:
    return [CreditedTrajectory(trajectory=each, credits=(0.5,) * len(each.chunks)) for each in mixed_batch]


def receiver(folder, dtype="float32"):
    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()


def problem_of(model, update):
    """Return what is wrong with the update's canary under the model's weights."""
    ids = torch.tensor([update.canary.token_ids])
    with torch.no_grad():
        logprobs = model(ids).logits[0, :-1].float().log_softmax(-1)
    found = logprobs.gather(1, ids[0, 1:, None]).squeeze(1).tolist()
    dtype = str(model.dtype).removeprefix("torch.")
    return canary_problem(update.canary, found, dtype=dtype, tolerance=None)


@pytest.mark.parametrize("architecture", ["llama", "llama-untied", "gpt2", "gemma2"])
@pytest.mark.parametrize(
    "settings", [{"dtype": "float32"}, {"dtype": "bfloat16"}, {"dtype": "float32", "snapshots": 0}]
)
async def test_it_is_that_of_the_published_weights_and_of_no_others(
    architecture, settings, start, credited, algorithm, model_folder
):
    backend = await start("rl", architecture=architecture, rl=STEEP, **settings)
    stale = receiver(model_folder(architecture))
    for version in (1, 2):
        await backend.step(credited, algorithm())
        update = backend.weights()
        assert update.canary.dtype == settings["dtype"]
        assert problem_of(stale, update), f"the weights before version {version} are noticed"
        put_weights(stale, update)
        assert problem_of(stale, update) == ""


@pytest.mark.parametrize("checkpointing", [False, True])
async def test_an_adapter_is_in_it_and_its_dropout_is_not(checkpointing, start, credited, algorithm, model_folder):
    backend = await start("rl", lora=LORA, rl=STEEP, dtype="float32", gradient_checkpointing=checkpointing)
    base = receiver(model_folder("llama"))
    assert problem_of(base, backend.weights()) == "", "an adapter begins without a change"
    for _ in range(3):
        await backend.step(credited, algorithm())
    update = backend.weights()
    assert update.partial
    assert problem_of(base, update), "the weights without the adapter are noticed"
    assert backend.weights().canary == update.canary, "nothing is drawn"
    put_weights(base, update)
    assert problem_of(base, update) == ""


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
@pytest.mark.parametrize("settings", [{}, {"mixed_precision": "bf16"}, {"lora": LORA}])
def test_several_processes_send_what_one_would(strategy, settings, mixed_batch, model_folder):
    backend = TorchTraining(TorchTrainingSettings(processes=2, strategy=strategy, sft=STEEP, **settings))
    served = receiver(model_folder("llama"))
    try:
        asyncio.run(backend.start(model_folder("llama"), seed=0))
        backend.begin("sft", optimizer_steps=10)
        for _ in range(2):
            asyncio.run(backend.fit_sft(mixed_batch))
            update = backend.weights()
            assert update.canary.dtype == ("bfloat16" if "mixed_precision" in settings else "float32")
            put_weights(served, update)
            assert problem_of(served, update) == ""
        asyncio.run(backend.fit_sft(mixed_batch))
        if "mixed_precision" not in settings:
            assert problem_of(served, backend.weights())
    finally:
        asyncio.run(backend.close())


@pytest.mark.parametrize("vocabulary", [5, 23, 50_257, 151_936])
def test_its_tokens_are_spread_over_the_vocabulary(vocabulary, model_folder):
    config = receiver(model_folder("llama")).config
    config.vocab_size = vocabulary
    ids = canary_tokens(config)
    assert len(ids) == 32 and min(ids) >= 0 and max(ids) < vocabulary
    assert len(set(ids)) >= min(vocabulary, 20)
    assert {4 * each // vocabulary for each in ids} == {0, 1, 2, 3}
    config.max_position_embeddings = 8
    assert canary_tokens(config) == ids[:8]
