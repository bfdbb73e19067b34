"""What of a record is trained: each sampled token once with its chunk's weight, however often history was rewritten."""

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from tests.integration.tokens_episodes import COMPONENT, Library, play
from tests.integration.tokens_templates import CHATML, make_tokenizer, odd_ids
from transformers import LlamaConfig, LlamaForCausalLM
from transformers.utils import logging

from tumbler.contracts.agent import Limits
from tumbler.contracts.algorithm import Algorithm, Group
from tumbler.contracts.batch import CreditedTrajectory
from tumbler.contracts.context import ContextStrategy
from tumbler.contracts.environment import StepResult
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.inference import Sampling
from tumbler.contracts.values import ToolCall
from tumbler.rollout.context import NamedStrategy
from tumbler.rollout.runner import EpisodeParts, LocalEpisodeRunner, NamedEnvironment
from tumbler.run.credit import credit_groups
from tumbler.testing import CharacterTokenizer, ScriptedInference, sample_task
from tumbler.trajectory import Trajectory
from tumbler_agents.context.mask_observations import MaskObservations, MaskObservationsSettings
from tumbler_agents.context.subagent import Subagent, SubagentSettings
from tumbler_agents.context.summary import SummarySettings, SummaryStrategy
from tumbler_agents.context.window import Window, WindowSettings
from tumbler_agents.react.agent import ReactAgent
from tumbler_agents.react.settings import ReactSettings
from tumbler_algorithms.ipa.algorithm import IPA
from tumbler_algorithms.ipa.settings import IPASettings
from tumbler_backends.inference.transformers.tokenizer import HuggingFaceTokenizer
from tumbler_backends.training.torch.batching import computed_tokens, micro_batches
from tumbler_backends.training.torch.collate import Batch, LossTokens, collate, token_batch
from tumbler_backends.training.torch.layout import Example, rl_examples
from tumbler_backends.training.torch.policy import load_policy
from tumbler_backends.training.torch.settings import TorchTrainingSettings

CPU = torch.device("cpu")
Strategies = Callable[[], list[ContextStrategy]]


def summary() -> ContextStrategy:
    return SummaryStrategy(SummarySettings(threshold=0.7, keep_last=2, max_tokens=200))


PIPELINES: dict[str, Strategies] = {
    "none": list,
    "window": lambda: [Window(WindowSettings(keep_last=2))],
    "summary": lambda: [summary()],
    "subagent-mask": lambda: [
        Subagent(SubagentSettings()),
        MaskObservations(MaskObservationsSettings(keep=1, poll=1)),
        summary(),
    ],
}


def algorithm(**changes: object) -> IPA:
    fields = {"gamma": 0.9, "mask_level": "none", "turn_rewards": "ignore", **changes}
    return IPA(IPASettings(**fields))  # type: ignore[arg-type]  # tests replace single settings


def credited(trajectories: Sequence[Trajectory], by: Algorithm) -> list[CreditedTrajectory]:
    return credit_groups(by, [Group(id="g", task_id="t", trajectories=tuple(trajectories))])


Place = tuple[str, int, int]
"""Trajectory, segment, position."""


def places(examples: Sequence[Example], batch: Batch) -> list[Place]:
    """Return where each loss token of the batch stands in the records."""
    width = batch.token_ids.shape[1]
    rows = [(each.trajectory.id, segment) for each in examples for segment in each.segments]
    return [(*rows[index // width], index % width) for index in batch.positions.tolist()]


def weights(batch: Sequence[CreditedTrajectory], by: Algorithm, *, tokens: int = 20_000) -> dict[Place, float]:
    """Return what each token weighs in the loss: minus its gradient, over all micro-batches as the backend adds up."""
    found: Counter[Place] = Counter()
    gradient: dict[Place, float] = {}
    denominator = 0.0
    for examples in micro_batches(rl_examples(batch), tokens=tokens):
        collated = collate(examples, device=CPU)
        policy = torch.full((len(collated.positions),), -0.5, dtype=torch.float64, requires_grad=True)
        seen = token_batch(examples, collated, LossTokens(policy=policy, old=policy.detach()))
        output = by.loss(seen)
        output.total.backward()
        assert policy.grad is not None
        denominator += output.denominator
        for place, value in zip(places(examples, collated), policy.grad.tolist(), strict=True):
            found[place] += 1
            gradient[place] = -value
    assert set(found.values()) <= {1}, "a token is in the loss twice"
    return {place: value / denominator for place, value in gradient.items()}


def trainable(trajectory: Trajectory, credits_: Sequence[float]) -> dict[Place, float]:
    """Return the tokens that RL may train, each with its chunk's credit."""
    return {
        (trajectory.id, chunk.segment, position): credit
        for chunk, credit in zip(trajectory.chunks, credits_, strict=True)
        if chunk.trainable
        for position in range(chunk.start, chunk.end)
    }


@pytest.mark.parametrize("name", PIPELINES)
async def test_each_trainable_token_enters_the_loss_once_with_its_chunks_weight(name: str) -> None:
    trajectories = [(await play(PIPELINES[name](), seed)).trajectory for seed in range(12)]
    ipa = algorithm()
    batch = credited(trajectories, ipa)
    expected = {place: value for each in batch for place, value in trainable(each.trajectory, each.credits).items()}
    for tokens in (1, 10_000, 10**7):
        found = weights(batch, ipa, tokens=tokens)
        assert set(found) == set(expected)
        for place, value in found.items():
            assert value == pytest.approx(expected[place] / len(trajectories), abs=1e-12)
    sampled = sum(each.sampled_tokens for each in trajectories)
    assert len(expected) <= sampled
    chunks = [chunk for each in trajectories for chunk in each.chunks]
    assert len(expected) == sampled - sum(chunk.end - chunk.start for chunk in chunks if not chunk.trainable)


@pytest.mark.parametrize("name", ["window", "summary", "subagent-mask"])
async def test_a_trajectory_weighs_the_same_however_often_its_context_was_compacted(name: str) -> None:
    compacted = [(await play(PIPELINES[name](), seed, beside=())).trajectory for seed in range(6)]
    whole = [(await play([], 100 + seed, beside=())).trajectory for seed in range(6)]
    assert min(len(each.segments) for each in compacted) > 1
    assert max(len(each.segments) for each in whole) == 1
    ipa = algorithm(gamma=1.0, normalisation="trajectory-mean")
    found = weights(credited([*compacted, *whole], ipa), ipa)
    per_trajectory: Counter[str] = Counter()
    for (trajectory, _, _), value in found.items():
        per_trajectory[trajectory] += value
    assert list(per_trajectory.values()) == pytest.approx([1 / 12] * 12)


async def test_the_papers_sum_divides_by_trajectories_and_never_by_segments() -> None:
    compacted = [(await play(PIPELINES["summary"](), seed, beside=())).trajectory for seed in range(4)]
    ipa = algorithm(gamma=1.0)
    found = weights(credited(compacted, ipa), ipa)
    assert sum(len(each.segments) for each in compacted) > 8
    assert set(map(round, (value * 4 for value in found.values()))) == {1}


class Talkative(Library):
    async def step(self, call: ToolCall) -> StepResult:
        return StepResult(observation="x" * 200)


async def test_all_35_sampled_tokens_are_trained_when_an_observation_is_masked() -> None:
    """Training what the last prompt holds loses the tokens behind it; training all prompts takes some twice."""
    inference = ScriptedInference(lambda _: "@read ", CharacterTokenizer())
    mask = MaskObservations(MaskObservationsSettings(keep=2, poll=1))
    parts = EpisodeParts(
        environments={"talkative": NamedEnvironment(build=Talkative, component=COMPONENT)},
        agent=ReactAgent(ReactSettings()),
        agent_component=COMPONENT,
        strategies=[NamedStrategy(name="mask", strategy=mask)],
        strategy_components=(COMPONENT,),
        tokenizer=inference.tokenizer,
        inference=inference,
        sandboxes=None,
        limits=Limits(turns=5),
    )
    request = RolloutRequest(
        id="r", task=sample_task(), seed=0, group="g", sampling=Sampling(max_tokens=50), env="talkative"
    )
    trajectory = await LocalEpisodeRunner(parts)(request)
    ipa = algorithm()
    found = weights(credited([trajectory], ipa), ipa)
    assert len(found) == trajectory.sampled_tokens == 35
    reply = [ord(character) for character in "@read "] + [3]
    spelt = [
        len([i for i in range(len(s.token_ids)) if list(s.token_ids[i : i + 7]) == reply]) * 7
        for s in trajectory.segments
    ]
    assert len(spelt) > 1, "nothing was masked"
    assert sum(spelt) > 35, "no history was copied"
    last = [chunk for chunk in trajectory.chunks if chunk.segment == len(spelt) - 1]
    assert sum(chunk.end - chunk.start for chunk in last) < 35


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = make_tokenizer(tmp_path_factory.mktemp("model"), CHATML)
    vocabulary = LlamaConfig.from_pretrained(folder).vocab_size
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=2500,
    )
    logging.disable_progress_bar()
    LlamaForCausalLM(config).save_pretrained(folder)
    logging.enable_progress_bar()
    return folder


async def test_history_that_segments_share_is_computed_once_and_trained_once(model: Path) -> None:
    tokenizer = HuggingFaceTokenizer(model)
    odd = odd_ids(tokenizer)
    made = [await play(PIPELINES["subagent-mask"](), seed, tokenizer=tokenizer, odd=odd, turns=6) for seed in range(3)]
    ipa = algorithm()
    examples = rl_examples(credited([each.trajectory for each in made], ipa))
    assert computed_tokens(examples, share=True) < 0.7 * computed_tokens(examples, share=False)
    gradients, logprobs = [], []
    for share in (False, True):
        found: dict[Place, float] = {}
        policy = load_policy(model, TorchTrainingSettings(dtype="float64", share_prefixes=share))
        for part in micro_batches(examples, tokens=50_000, share=share):
            batch = collate(part, device=CPU)
            scores = policy(batch)
            found |= dict(zip(places(part, batch), scores.logprobs.tolist(), strict=True))
            tokens = LossTokens(policy=scores.logprobs, old=scores.logprobs.detach())
            output = ipa.loss(token_batch(part, batch, tokens))
            output.total.backward()
        logprobs.append(found)
        gradients.append([each.grad for each in policy.model.parameters()])
    apart, together = logprobs
    assert set(apart) == set(together)
    assert all(together[place] == pytest.approx(value, abs=1e-10) for place, value in apart.items())
    for one, other in zip(*gradients, strict=True):
        # Llama's norms compute in single precision whatever the type of the weights is.
        assert (one - other).norm() <= 1e-5 * one.norm()
