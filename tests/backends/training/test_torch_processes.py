"""Two worker processes of the torch training backend against one process: gradients, metrics, checkpoints."""

import asyncio
from collections.abc import Iterator

import pytest
import torch

from tumbler.contracts.batch import CreditedTrajectory
from tumbler.errors import RunError
from tumbler_algorithms.grpo.algorithm import GRPO
from tumbler_algorithms.grpo.settings import GRPOSettings
from tumbler_algorithms.gspo.algorithm import GSPO
from tumbler_algorithms.gspo.settings import GSPOSettings
from tumbler_algorithms.ipa.algorithm import IPA
from tumbler_algorithms.ipa.settings import IPASettings
from tumbler_algorithms.ppo.algorithm import PPO
from tumbler_algorithms.ppo.settings import PPOSettings
from tumbler_backends.training.torch.backend import TorchTraining
from tumbler_backends.training.torch.settings import (
    LoraSettings,
    OptimizerSettings,
    TorchTrainingSettings,
    ValueHeadSettings,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CREDITS = [(0.5, -1.0, 2.0), (0.1, 0.2, 0.3, -0.75), (1.5, 9.0, 0.25), (-0.5,)]
STEADY = OptimizerSettings(learning_rate=1e-2, max_grad_norm=0.5, weight_decay=0.1)
SETTINGS = {
    "dtype": "float64",
    "sft": STEADY,
    "rl": STEADY,
    "micro_batch_tokens": 40,
    "value_head": ValueHeadSettings(learning_rate=1e-2),
    "max_skipped_steps": 1,
}
ALGORITHMS = {
    "ipa": lambda: IPA(IPASettings(imitation_weight=0.5)),
    "grpo": lambda: GRPO(GRPOSettings(old_policy="snapshot", epochs=2, minibatches=2)),
    "gspo": lambda: GSPO(GSPOSettings(epochs=2)),
    "ppo": lambda: PPO(PPOSettings(epochs=2)),
}


@pytest.fixture
def credited(mixed_batch) -> list[CreditedTrajectory]:
    return [CreditedTrajectory(trajectory=t, credits=c) for t, c in zip(mixed_batch, CREDITS, strict=True)]


class Started:
    """A backend and a checkpoint of its beginning, to go back to."""

    def __init__(self, backend: TorchTraining, zero) -> None:
        self.backend = backend
        self._zero = zero

    async def begin(self, phase: str) -> TorchTraining:
        await self.backend.load(self._zero)
        self.backend.begin(phase, optimizer_steps=10)
        return self.backend


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def team(request, model_folder, tmp_path_factory) -> Iterator[Started]:
    """Return a backend of two processes."""
    yield from _started(model_folder, tmp_path_factory, processes=2, strategy=request.param)


@pytest.fixture(scope="module")
def alone(model_folder, tmp_path_factory) -> Iterator[Started]:
    """Return a backend of one process."""
    yield from _started(model_folder, tmp_path_factory)


def _started(model_folder, tmp_path_factory, **settings) -> Iterator[Started]:
    backend = TorchTraining(TorchTrainingSettings(**SETTINGS, **settings))
    zero = tmp_path_factory.mktemp("zero") / "checkpoint"
    asyncio.run(backend.start(model_folder("llama"), seed=3))
    try:
        asyncio.run(backend.save(zero))
        yield Started(backend, zero)
    finally:
        asyncio.run(backend.close())


async def state_of(backend: TorchTraining, folder) -> dict:
    """Return what a checkpoint of the backend holds."""
    await backend.save(folder)
    return torch.load(folder / "state.pt", weights_only=True)


def assert_close(ours, theirs, *, tolerance: float) -> None:
    """Compare moments and weights: after one step a first moment is a tenth or so of the clipped gradient."""
    assert ours.keys() == theirs.keys()
    for name, moments in ours.items():
        largest = theirs[name].abs().max().item()
        torch.testing.assert_close(moments, theirs[name], rtol=0, atol=tolerance * max(largest, 1e-3), msg=name)


def gradients(state: dict) -> dict:
    moments = state["optimization"]["optimizer"]["state"]
    return {str(index): each["exp_avg"] / (1 - 0.9) for index, each in moments.items()}


async def test_supervised_gradients_and_metrics_are_those_of_one_process(team, alone, mixed_batch, tmp_path):
    states, reports = [], []
    for name, started in (("ours", team), ("theirs", alone)):
        backend = await started.begin("sft")
        reports.append(await backend.fit_sft(mixed_batch))
        states.append(await state_of(backend, tmp_path / name))
    assert_close(*map(gradients, states), tolerance=1e-9)
    same_report(*reports)


@pytest.mark.parametrize("name", ALGORITHMS)
async def test_gradients_metrics_and_samples_are_those_of_one_process(
    name, team, alone, credited, weights_of, tmp_path
):
    states, reports, weights = [], [], []
    for who, started in (("ours", team), ("theirs", alone)):
        backend = await started.begin("rl")
        reports.append([])
        for _ in range(2):
            backend.weights()
            reports[-1].append(await backend.step(credited, ALGORITHMS[name]()))
        states.append(await state_of(backend, tmp_path / who))
        weights.append(weights_of(backend))
    assert_close(*map(gradients, states), tolerance=1e-7)
    assert_close(*weights, tolerance=1e-7)
    for pair in zip(*reports, strict=True):
        same_report(*pair)
    assert team.backend.version == alone.backend.version == 2


def same_report(ours, theirs) -> None:
    assert ours.optimizer_steps == theirs.optimizer_steps
    assert ours.metrics.keys() == theirs.metrics.keys()
    # How much of the prefixes is shared, and padding, depend on who computes what.
    own = {"train/computed_tokens", "train/shared_share"}
    for name in ours.metrics.keys() - own:
        if "seconds" not in name:
            assert ours.metrics[name] == pytest.approx(theirs.metrics[name], rel=1e-6, abs=1e-9), name
    assert ours.samples.keys() == theirs.samples.keys()
    for name, values in ours.samples.items():
        assert sorted(values) == pytest.approx(sorted(theirs.samples[name]), rel=1e-6, abs=1e-9), name


async def test_a_single_trajectory_leaves_one_process_without_work_and_nobody_waits(team, alone, credited, weights_of):
    weights = []
    for started in (team, alone):
        backend = await started.begin("rl")
        report = await backend.step(credited[3:], ALGORITHMS["ppo"]())
        assert report.optimizer_steps == 2
        weights.append(weights_of(backend))
        empty = await backend.step([], ALGORITHMS["ppo"]())
        assert (empty.optimizer_steps, empty.metrics["train/empty_steps"]) == (0, 2)
    assert_close(*weights, tolerance=1e-7)


async def test_a_loss_that_is_not_finite_in_one_process_is_skipped_by_all(team, credited, weights_of):
    backend = await team.begin("rl")
    before = weights_of(backend)
    broken = [*credited[:3], CreditedTrajectory(trajectory=credited[3].trajectory, credits=(float("nan"),))]
    report = await backend.step(broken, ALGORITHMS["ipa"]())
    assert (report.optimizer_steps, report.metrics["train/skipped_steps"], backend.version) == (0, 1, 0)
    assert_close(weights_of(backend), before, tolerance=0)
    with pytest.raises(RunError, match=r"loss of 2 optimizer step\(s\) in a row was not finite"):
        await backend.step(broken, ALGORITHMS["ipa"]())
    backend = await team.begin("rl")
    assert (await backend.step(credited, ALGORITHMS["ipa"]())).optimizer_steps == 1


async def test_a_checkpoint_goes_on_with_another_number_of_processes(team, alone, credited, weights_of, tmp_path):
    straight = await alone.begin("rl")
    for _ in range(2):
        straight.weights()
        await straight.step(credited, ALGORITHMS["ppo"]())
    await straight.save(tmp_path / "one")
    await straight.step(credited, ALGORITHMS["grpo"]())
    backend = team.backend
    await backend.load(tmp_path / "one")
    assert backend.version == 2
    await backend.save(tmp_path / "two")
    await backend.step(credited, ALGORITHMS["grpo"]())
    assert_close(weights_of(backend), weights_of(straight), tolerance=1e-7)
    await alone.backend.load(tmp_path / "two")
    await alone.backend.step(credited, ALGORITHMS["grpo"]())
    assert_close(weights_of(alone.backend), weights_of(backend), tolerance=1e-7)
    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "two" / "model" / file).is_file()


async def test_what_all_processes_refuse_ends_the_call_alone(team, credited, mixed_batch):
    backend = await team.begin("rl")
    with pytest.raises(RunError, match=r"a step of phase 'sft' was asked for in phase 'rl'"):
        await backend.fit_sft(mixed_batch)

    class Nested(GRPO):
        """An algorithm that no other process finds."""

    with pytest.raises(RunError, match=r"cannot be handed to worker processes.*or set processes = 1"):
        await backend.step(credited, Nested(GRPOSettings()))
    assert (await backend.step(credited, ALGORITHMS["gspo"]())).optimizer_steps == 2


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
async def test_an_adapter_with_activations_computed_again_is_trained_as_in_one_process(
    strategy, start, credited, weights_of, tmp_path
):
    lora = LoraSettings(rank=4, target_modules=("q_proj", "up_proj"))
    settings = {**SETTINGS, "lora": lora, "gradient_checkpointing": True}
    weights = []
    for processes in (2, 1):
        backend = await start("rl", **settings, processes=processes, strategy=strategy)
        for _ in range(2):
            await backend.step(credited, ALGORITHMS["ppo"]())
        assert backend.weights().partial
        weights.append(weights_of(backend))
        await backend.save(tmp_path / str(processes))
    assert_close(*weights, tolerance=1e-7)
    # The last backend is of one process: it goes on from what two have written.
    await backend.load(tmp_path / "2")
    assert_close(weights_of(backend), weights[0], tolerance=1e-12)
    files = [
        sorted(str(each.relative_to(tmp_path / name)) for each in (tmp_path / name).rglob("*")) for name in ("1", "2")
    ]
    assert files[0] == files[1]
