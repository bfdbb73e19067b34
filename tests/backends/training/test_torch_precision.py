"""Mixed precision and activation checkpointing in the torch training backend."""

import pytest
import torch

from tumbler_backends.training.torch.settings import OptimizerSettings, TorchTrainingSettings
from tumbler_backends.training.torch.trainer import Trainer

STEADY = OptimizerSettings(learning_rate=3e-3, max_grad_norm=0)


async def gradients(backend, folder) -> dict[int, torch.Tensor]:
    """Return the gradient of a first optimizer step, as its first moments tell it."""
    await backend.save(folder)
    state = torch.load(folder / "state.pt", weights_only=True)["optimization"]["optimizer"]["state"]
    return {index: each["exp_avg"] / (1 - STEADY.betas[0]) for index, each in state.items()}


@pytest.fixture
def trainer(model_folder):
    """Return a function that makes a trainer with mixed precision, which is one choice for a whole process."""
    from accelerate.state import AcceleratorState

    def make(precision: str, **settings) -> Trainer:
        AcceleratorState._reset_state()
        chosen = TorchTrainingSettings(mixed_precision=precision, sft=STEADY, **settings)
        made = Trainer(model_folder("qwen2"), chosen, seed=0)
        made.begin("sft", optimizer_steps=20)
        return made

    yield make
    AcceleratorState._reset_state(reset_partial_state=True)


def first_moments(trainer: Trainer, folder) -> torch.Tensor:
    trainer.save(folder)
    state = torch.load(folder / "state.pt", weights_only=True)["optimization"]["optimizer"]["state"]
    return torch.cat([each["exp_avg"].flatten() for each in state.values()])


@pytest.mark.parametrize("checkpointing", [False, True])
def test_in_bf16_the_loss_falls_weights_stay_float32_and_gradients_agree(checkpointing, trainer, mixed_batch, tmp_path):
    moments = []
    for precision in ("no", "bf16"):
        made = trainer(precision, gradient_checkpointing=checkpointing)
        losses = [made.fit_sft(mixed_batch).metrics["train/loss"]]
        moments.append(first_moments(made, tmp_path / precision))
        losses += [made.fit_sft(mixed_batch).metrics["train/loss"] for _ in range(15)]
        assert losses[-1] < losses[0] - 0.5
        tensors = made.weights().tensors
        assert tensors is not None
        assert {tensor.dtype for _, tensor in tensors()} == {torch.float32}
        canary = made.weights().canary
        assert canary is not None
        assert canary.dtype == ("bfloat16" if precision == "bf16" else "float32")
    exact, rounded = moments
    assert not torch.equal(exact, rounded)
    # bfloat16 keeps 8 bits: an error of 1 in 256 in each of the dozens of operations between a weight and the loss.
    assert float((rounded - exact).norm()) < 0.08 * float(exact.norm())


async def test_checkpointing_changes_no_gradient(start, mixed_batch, tmp_path):
    found = []
    for checkpointing in (False, True):
        backend = await start("sft", architecture="qwen2", sft=STEADY, gradient_checkpointing=checkpointing)
        await backend.fit_sft(mixed_batch)
        found.append(await gradients(backend, tmp_path / str(checkpointing)))
    for index, gradient in found[0].items():
        torch.testing.assert_close(found[1][index], gradient, rtol=1e-9, atol=1e-12)
