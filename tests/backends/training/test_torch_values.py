"""The value head of the torch training backend: its values, its optimizer group, its checkpoints."""

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from tumbler.contracts.batch import CreditedTrajectory, LossOutput
from tumbler.errors import RunError
from tumbler_backends.training.torch.collate import Batch
from tumbler_backends.training.torch.policy import Policy, load_policy, state_size
from tumbler_backends.training.torch.settings import OptimizerSettings, TorchTrainingSettings, ValueHeadSettings
from tumbler_backends.training.torch.value_head import ValueHead

CREDITS = [(0.5, -1.0, 2.0), (0.1, 0.2, 0.3, -0.75), (1.5, 9.0, 0.25), (-0.5,)]
HEAD = ValueHeadSettings(learning_rate=5e-2)


@pytest.fixture
def credited(mixed_batch) -> list[CreditedTrajectory]:
    return [CreditedTrajectory(trajectory=t, credits=c) for t, c in zip(mixed_batch, CREDITS, strict=True)]


@pytest.fixture
def every_term(algorithm):
    """Return a class of algorithms whose loss reads everything that a backend can give."""

    class EveryTerm(algorithm):
        def __init__(self, **rule) -> None:
            super().__init__(**{"reference": True, "entropy": True, "values": True, **rule})

        def loss(self, batch) -> LossOutput:
            output = super().loss(batch)
            trained = batch.chunk_of_token >= 0
            reward = batch.reward[batch.chunk_trajectory[batch.chunk_of_token[trained]]]
            values = batch.values[trained]
            total = (
                output.total
                + 0.1 * (batch.policy_logprobs - batch.reference_logprobs)[trained].square().sum()
                - 0.05 * batch.entropies[trained].sum()
                + 0.5 * (values - reward).square().sum()
                + 0.3 * (values - batch.old_values[trained]).square().sum()
            )
            mean = (float(values.detach().sum()), float(trained.sum()))
            return LossOutput(total=total, denominator=output.denominator, metrics={"test/value": mean})

    return EveryTerm


@pytest.fixture
def value_loss(algorithm):
    """Return a class of algorithms that fit nothing but the values, to 1."""

    class ValueLoss(algorithm):
        def __init__(self, **rule) -> None:
            super().__init__(values=True, **rule)

        def loss(self, batch) -> LossOutput:
            self.seen.append(batch)
            trained = batch.chunk_of_token >= 0
            return LossOutput(total=(batch.values[trained] - 1).square().sum(), denominator=float(trained.sum()))

    return ValueLoss


def trained_values(batch) -> torch.Tensor:
    return batch.values[batch.chunk_of_token >= 0].detach()


def assert_bit_equal(ours, theirs) -> None:
    assert ours.keys() == theirs.keys()
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name


class PlainCritic:
    """A plain model with a value head, trained by one AdamW and clipped as one."""

    def __init__(self, plain, settings: OptimizerSettings) -> None:
        self._model, self._settings = plain.model, settings
        self._linear = torch.nn.Linear(16, 1, dtype=torch.float64)
        torch.nn.init.zeros_(self._linear.weight)
        torch.nn.init.zeros_(self._linear.bias)
        self._every = [*self._model.parameters(), *self._linear.parameters()]
        groups = [
            {"params": list(self._model.parameters()), "lr": settings.learning_rate},
            {"params": list(self._linear.parameters()), "lr": HEAD.learning_rate},
        ]
        self._optimizer = torch.optim.AdamW(groups, betas=settings.betas, weight_decay=0.0)

    def value(self, tokens) -> torch.Tensor:
        return self._linear(self._model.base_model(input_ids=torch.tensor([tokens])).last_hidden_state[0, -1])[0]

    def step(self, batch) -> tuple[float, float]:
        """Fit the values to 1 and return loss and gradient norm."""
        values = [
            self.value(record.segments[chunk.segment].token_ids[:position])
            for record in batch
            for chunk in record.chunks
            if chunk.trainable
            for position in range(chunk.start, chunk.end)
        ]
        loss = (torch.stack(values) - 1).square().mean()
        self._optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self._every, self._settings.max_grad_norm)
        self._optimizer.step()
        return loss.item(), float(norm)


async def test_head_and_policy_move_together_as_in_the_plain_reference(
    start, credited, mixed_batch, reference, value_loss, weights_of, model_folder
):
    settings = OptimizerSettings(learning_rate=1e-3, max_grad_norm=0.5)
    backend = await start("rl", architecture="gpt2", rl=settings, value_head=HEAD, micro_batch_tokens=60)
    plain = reference(model_folder("gpt2"))
    critic = PlainCritic(plain, settings)
    for _ in range(4):
        report = await backend.step(credited, value_loss())
        loss, norm = critic.step(mixed_batch)
        assert report.metrics["train/loss"] == pytest.approx(loss, rel=1e-6)
        assert report.metrics["train/gradient_norm"] == pytest.approx(norm, rel=1e-6)
    ours, theirs = weights_of(backend), plain.model.state_dict()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5)


async def test_values_are_learnt_at_the_tokens_of_the_loss_and_are_nowhere_else(start, credited, value_loss):
    backend = await start("rl", value_head=HEAD)
    method = value_loss()
    for _ in range(30):
        await backend.step(credited, method)
    first, last = method.seen[0], method.seen[-1]
    assert (first.values == 0).all(), "the head begins at 0"
    assert (trained_values(last) - 1).abs().max().item() < 0.2
    elsewhere = (last.chunk_of_token < 0) & ~last.imitation_mask
    assert (last.values[elsewhere] == 0).all()
    assert last.values.dtype == torch.float64


async def test_a_detached_head_moves_no_weight_of_the_policy(start, credited, value_loss, weights_of):
    backend = await start("rl", value_head=ValueHeadSettings(learning_rate=5e-2, detach=True))
    before = weights_of(backend)
    method = value_loss()
    for _ in range(3):
        await backend.step(credited, method)
    assert_bit_equal(weights_of(backend), before)
    assert trained_values(method.seen[-1]).abs().min().item() > 0.01


async def test_old_values_are_those_before_the_first_step(start, credited, value_loss):
    backend = await start("rl", value_head=HEAD)
    await backend.step(credited, value_loss())
    method = value_loss(epochs=2)
    await backend.step(credited, method)
    first, second = method.seen
    torch.testing.assert_close(first.old_values, first.values.detach(), rtol=0, atol=1e-9)
    assert torch.equal(second.old_values, first.old_values)
    assert not first.old_values.requires_grad
    assert (trained_values(second) - trained_values(first)).abs().max().item() > 0.01
    # Of a batch's only step they are the forward pass itself.
    method = value_loss()
    await backend.step(credited, method)
    assert torch.equal(method.seen[0].old_values, method.seen[0].values.detach())
    assert not method.seen[0].old_values.requires_grad


@pytest.mark.parametrize("source", ["snapshot", "behaviour", "recompute"])
async def test_old_values_do_not_depend_on_where_old_log_probabilities_come_from(source, start, credited, value_loss):
    backend = await start("rl", value_head=HEAD)
    await backend.step(credited, value_loss())
    method = value_loss(epochs=2, old_policy=source)
    await backend.step(credited, method)
    torch.testing.assert_close(method.seen[1].old_values, method.seen[0].values.detach(), rtol=0, atol=1e-9)
    expected = {
        "behaviour": lambda batch: torch.equal(batch.old_logprobs, batch.behaviour_logprobs),
        "recompute": lambda batch: torch.allclose(batch.old_logprobs, batch.policy_logprobs.detach(), atol=1e-6),
        "snapshot": lambda batch: (batch.old_logprobs - batch.policy_logprobs).abs().max().item() > 0.01,
    }
    assert expected[source](method.seen[0])


async def test_steps_on_every_term_do_not_depend_on_the_micro_batches(start, credited, every_term, weights_of):
    seen = []
    for tokens in (1, 70, 10_000):
        backend = await start("rl", architecture="gpt2", micro_batch_tokens=tokens, value_head=HEAD)
        method = every_term(epochs=2, minibatches=2)
        reports = [await backend.step(credited, method) for _ in range(2)]
        seen.append((len(method.seen), reports, weights_of(backend)))
    assert seen[0][0] > seen[1][0] >= seen[2][0] == 8
    for _, reports, weights in seen[1:]:
        for report, first in zip(reports, seen[0][1], strict=True):
            for name in ("train/loss", "train/gradient_norm", "train/entropy", "test/value"):
                assert report.metrics[name] == pytest.approx(first.metrics[name], rel=1e-5), name
        for name in weights:
            torch.testing.assert_close(weights[name], seen[0][2][name], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("architecture", "settings"),
    [
        ("llama", {"dtype": "float32"}),
        ("llama", {"dtype": "float64"}),
        ("gpt2", {"dtype": "bfloat16", "snapshots": 0}),
        ("gemma2", {"dtype": "float64"}),
    ],
)
async def test_head_and_reference_continue_bit_for_bit_after_loading(
    architecture, settings, start, credited, every_term, weights_of, tmp_path
):
    settings = {"architecture": architecture, "value_head": HEAD, **settings}
    straight = await start("rl", seed=5, **settings)
    method = every_term(minibatches=2, epochs=2)
    for _ in range(2):
        await straight.step(credited, method)
    await straight.save(tmp_path / "one")
    resumed = await start(None, seed=99, **settings)
    await resumed.load(tmp_path / "one")
    methods = [every_term(minibatches=2, epochs=2) for _ in range(2)]
    for _ in range(2):
        for backend, each in zip((straight, resumed), methods, strict=True):
            await backend.step(credited, each)
    assert_bit_equal(weights_of(resumed), weights_of(straight))
    for one, other in zip(*(each.seen for each in methods), strict=True):
        assert torch.equal(one.reference_logprobs, other.reference_logprobs)
        assert torch.equal(one.values, other.values)
        assert torch.equal(one.old_values, other.old_values)
        assert (one.reference_logprobs - one.policy_logprobs).abs().max().item() > 1e-3


async def test_a_checkpoint_before_the_first_step_has_the_reference_as_well(start, credited, every_term, tmp_path):
    straight = await start("rl")
    await straight.save(tmp_path / "zero")
    resumed = await start(None)
    await resumed.load(tmp_path / "zero")
    methods = [every_term() for _ in range(2)]
    for backend, method in zip((straight, resumed), methods, strict=True):
        for _ in range(2):
            await backend.step(credited, method)
    assert torch.equal(methods[0].seen[1].reference_logprobs, methods[1].seen[1].reference_logprobs)


async def test_the_head_is_neither_published_nor_in_the_model_folder(
    start, credited, every_term, weights_of, tmp_path, model_folder
):
    backend = await start("rl")
    names = weights_of(backend).keys()
    await backend.step(credited, every_term())
    assert weights_of(backend).keys() == names
    await backend.save(tmp_path / "one")
    logging.disable_progress_bar()
    model, loading = AutoModelForCausalLM.from_pretrained(
        tmp_path / "one" / "model", dtype="auto", output_loading_info=True
    )
    assert not loading["unexpected_keys"] and not loading["missing_keys"]
    assert_bit_equal(model.state_dict(), weights_of(backend))
    assert [each.name for each in (tmp_path / "one" / "model").iterdir() if "value" in each.name] == []


async def test_a_checkpoint_without_a_head_takes_one_away(start, credited, value_loss, tmp_path):
    backend = await start("rl", value_head=HEAD)
    await backend.save(tmp_path / "none")
    method = value_loss()
    for _ in range(2):
        await backend.step(credited, method)
    assert trained_values(method.seen[1]).abs().min().item() > 0
    await backend.load(tmp_path / "none")
    await backend.step(credited, method)
    assert (method.seen[2].values == 0).all()


async def test_the_head_outlives_its_phase(start, credited, mixed_batch, value_loss):
    backend = await start("rl", value_head=HEAD)
    method = value_loss()
    for _ in range(2):
        await backend.step(credited, method)
    backend.begin("sft", optimizer_steps=1)
    await backend.fit_sft(mixed_batch)
    backend.begin("rl", optimizer_steps=2)
    for _ in range(2):
        await backend.step(credited, method)
    assert trained_values(method.seen[2]).abs().min().item() > 0.01
    assert not torch.equal(method.seen[3].values, method.seen[2].values)


async def test_the_head_warms_up_and_falls_with_the_policy(start, credited, value_loss):
    moved = []
    for warmup_steps in (0, 4):
        rl = OptimizerSettings(learning_rate=1e-3, warmup_steps=warmup_steps)
        backend = await start("rl", rl=rl, value_head=ValueHeadSettings(learning_rate=8e-2, detach=True))
        method = value_loss()
        for _ in range(2):
            await backend.step(credited, method)
        moved.append(trained_values(method.seen[1]))
    # AdamW's first step is its learning rate in every direction: here 8e-2, and a quarter of it.
    torch.testing.assert_close(moved[0], 4 * moved[1], rtol=1e-4, atol=1e-6)


def test_hidden_states_are_those_below_the_head_also_where_logits_are_capped(model_folder):
    logging.disable_progress_bar()
    tokens = torch.randint(3, 23, (2, 9), generator=torch.Generator().manual_seed(0))
    for architecture in ("llama", "gemma2"):
        policy = load_policy(model_folder(architecture), TorchTrainingSettings(dtype="float64"))
        states = policy.model.base_model(input_ids=tokens).last_hidden_state.flatten(0, 1)
        positions = torch.tensor([1, 5, 10, 17])
        batch = Batch(token_ids=tokens, positions=positions, temperatures=None)
        torch.testing.assert_close(policy(batch, with_states=True).states, states[positions - 1])
        assert policy(batch).states is None
        assert state_size(policy, torch.device("cpu")) == 16


def test_a_model_that_hands_over_no_hidden_states_is_refused(model_folder, monkeypatch):
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(model_folder("gemma2"))
    policy = Policy(model)
    given = model.forward

    def without_states(*args, **named):
        output = given(*args, **named)
        output.hidden_states = None
        return output

    monkeypatch.setattr(model, "forward", without_states)
    with pytest.raises(RunError, match="Gemma2ForCausalLM does not hand over its hidden states"):
        state_size(policy, torch.device("cpu"))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_a_head_computes_in_float32_or_wider(dtype):
    head = ValueHead(4, dtype=dtype, device=torch.device("cpu"), detach=False)
    values = head(torch.ones(3, 4, dtype=dtype))
    assert values.shape == (3,)
    assert values.dtype == head.linear.weight.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
