"""What the torch training backend gives to losses beside log-probabilities: order, entropies, references, replayed."""

import random
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from tumbler.contracts.batch import CreditedTrajectory
from tumbler.errors import RunError
from tumbler_backends.training.torch.collate import LossTokens, collate, token_batch
from tumbler_backends.training.torch.layout import rl_examples

CREDITS = [(0.5, -1.0, 2.0), (0.1, 0.2, 0.3, -0.75), (1.5, 9.0, 0.25), (-0.5,)]


@pytest.fixture
def credited(mixed_batch) -> list[CreditedTrajectory]:
    return [CreditedTrajectory(trajectory=t, credits=c) for t, c in zip(mixed_batch, CREDITS, strict=True)]


@pytest.fixture
def ragged(trajectory):
    """Return a function from a seed to trajectories of random shape, their chunks interleaved over segments."""

    def build(seed: int) -> list[CreditedTrajectory]:
        rng = random.Random(seed)
        made = []
        for index in range(rng.randint(1, 5)):
            lengths = [0] * rng.randint(1, 4)
            chunks = []
            for position in range(rng.randint(1, 9)):
                segment = rng.randrange(len(lengths))
                start = lengths[segment] + rng.randint(0, 3)
                lengths[segment] = end = start + rng.randint(1, 4)
                kind = rng.choice(["trained", "trained", "masked", "replayed"])
                given = {"trained": {}, "masked": {"trainable": False}, "replayed": {"replayed": True}}[kind]
                sampled = {"sampled": kind != "replayed"}
                chunks.append({"segment": segment, "start": start, "end": end, "reward": position, **sampled, **given})
            record = trajectory(
                f"{seed}-{index}", segments=tuple(length + 1 for length in lengths), chunks=chunks, seed=seed + index
            )
            made.append(CreditedTrajectory(trajectory=record, credits=tuple(map(float, range(len(chunks))))))
        return made

    return build


@pytest.mark.parametrize("seed", range(30))
def test_chunks_ascend_by_trajectory_and_position_and_each_is_one_run_in_a_row(seed, ragged):
    examples = rl_examples(ragged(seed))
    if not examples:
        return
    laid_out = collate(examples, device=torch.device("cpu"))
    numbers = torch.rand(len(laid_out.positions))
    batch = token_batch(examples, laid_out, LossTokens(policy=numbers, old=numbers))
    kinds = [
        (batch.chunk_of_token, batch.chunk_trajectory, batch.chunk_position, batch.chunk_credit),
        (
            batch.imitation_chunk_of_token,
            batch.imitation_trajectory,
            batch.imitation_position,
            batch.imitation_credit,
        ),
    ]
    for of_token, owner, position, credit in kinds:
        order = list(zip(owner.tolist(), position.tolist(), strict=True))
        assert all(one < other for one, other in pairwise(order))
        assert credit.tolist() == position.tolist()
        assert set(of_token.unique().tolist()) - {-1} == set(range(len(order)))
        for index, (example, place) in enumerate(order):
            rows, columns = torch.nonzero(of_token == index, as_tuple=True)
            chunk = examples[example].trajectory.chunks[place]
            assert len(set(rows.tolist())) == 1
            assert columns.tolist() == list(range(max(1, chunk.start), chunk.end))
            assert batch.token_ids[rows, columns].tolist() == list(
                examples[example].trajectory.segments[chunk.segment].token_ids[max(1, chunk.start) : chunk.end]
            )
    assert torch.equal(batch.imitation_mask, batch.imitation_chunk_of_token >= 0)
    assert not (batch.imitation_mask & (batch.chunk_of_token >= 0)).any()


async def test_replayed_chunks_carry_credit_owner_and_position(start, credited, algorithm):
    method = algorithm()
    await (await start("rl")).step(credited, method)
    (batch,) = method.seen
    assert batch.imitation_credit.tolist() == pytest.approx([0.1])
    assert batch.reward[batch.imitation_trajectory].tolist() == [-0.5]
    assert batch.imitation_position.tolist() == [0]
    assert int((batch.imitation_chunk_of_token == 0).sum()) == 3


async def test_what_is_not_asked_for_is_not_there(start, credited, algorithm):
    method = algorithm()
    await (await start("rl")).step(credited, method)
    (batch,) = method.seen
    assert (batch.reference_logprobs, batch.entropies, batch.values, batch.old_values) == (None,) * 4


async def test_an_entropy_bonus_moves_the_weights_as_the_plain_reference(
    start, credited, mixed_batch, reference, algorithm, weights_of, model_folder
):
    class Entropy(algorithm):
        def loss(self, batch):
            trained = batch.chunk_of_token >= 0
            assert batch.entropies.requires_grad
            assert (batch.entropies[~trained & ~batch.imitation_mask] == 0).all()
            return replace(super().loss(batch), total=-batch.entropies[trained].sum())

    backend = await start("rl", architecture="gpt2", micro_batch_tokens=60)
    plain = reference(model_folder("gpt2"))
    for _ in range(2):
        report = await backend.step(credited, Entropy(entropy=True))
        entropies = []
        for record in mixed_batch:
            for chunk in record.chunks:
                if chunk.trainable:
                    entropies += plain.entropies(record, chunk, record.header.temperature)
        loss = -torch.stack(entropies).mean()
        assert report.metrics["train/loss"] == pytest.approx(loss.item(), rel=1e-6)
        assert report.metrics["train/entropy"] == pytest.approx(-loss.item(), rel=1e-6)
        assert report.metrics["train/gradient_norm"] == pytest.approx(plain.step(loss), rel=1e-6)
    ours, theirs = weights_of(backend), plain.model.state_dict()
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-5)


async def test_the_reference_is_the_policy_with_which_the_phase_began(start, credited, algorithm):
    backend = await start("rl", snapshots=0)
    method = algorithm(reference=True)
    for _ in range(3):
        await backend.step(credited, method)
    first, second, third = method.seen
    assert torch.equal(first.reference_logprobs, first.policy_logprobs.detach())
    for later in (second, third):
        assert torch.equal(later.reference_logprobs, first.reference_logprobs)
        assert not later.reference_logprobs.requires_grad
        assert (later.policy_logprobs - later.reference_logprobs).abs().max().item() > 0.01
    backend.begin("rl", optimizer_steps=2)
    await backend.step(credited, method)
    fourth = method.seen[-1]
    assert torch.equal(fourth.reference_logprobs, fourth.policy_logprobs.detach())


async def test_the_reference_is_taken_before_the_first_of_several_steps(start, credited, algorithm):
    backend = await start("rl")
    method = algorithm(reference=True, epochs=2)
    await backend.step(credited, method)
    first, second = method.seen
    assert torch.equal(second.reference_logprobs, first.reference_logprobs)
    assert (second.policy_logprobs - second.reference_logprobs).abs().max().item() > 0.01


async def test_a_reference_that_is_asked_for_too_late_is_refused_unless_it_was_kept(start, credited, algorithm):
    for snapshots in (0, 1):
        backend = await start("rl", snapshots=snapshots)
        first, late = algorithm(), algorithm(reference=True)
        await backend.step(credited, first)
        if snapshots:
            await backend.step(credited, late)
            assert torch.equal(late.seen[0].reference_logprobs, first.seen[0].policy_logprobs.detach())
        else:
            with pytest.raises(RunError, match=r"version 0, with which this phase began.*moved to version 1"):
                await backend.step(credited, late)


async def test_gradient_norms_are_reported_for_each_step_before_clipping(start, credited, algorithm):
    backend = await start("rl")
    report = await backend.step(credited, algorithm(epochs=3))
    norms = report.samples["train/gradient_norms"]
    assert len(norms) == report.optimizer_steps == 3
    assert len(set(norms)) == 3
    assert max(norms) > 0.5, "the bound on the norm, so that this one was clipped"
    assert sum(norms) / 3 == pytest.approx(report.metrics["train/gradient_norm"])
