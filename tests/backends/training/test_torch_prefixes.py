"""Shared prefixes: fewer tokens computed, and the very same log-probabilities, gradients and steps."""

import functools
from itertools import pairwise

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    Lfm2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)
from transformers.utils import logging

from tumbler.contracts.batch import CreditedTrajectory
from tumbler.trajectory import Chunk, Component, Header, Segment, Trajectory, verify_trajectory
from tumbler_backends.training.folders import copy_weights
from tumbler_backends.training.torch.batching import computed_tokens, micro_batches
from tumbler_backends.training.torch.collate import collate
from tumbler_backends.training.torch.layout import rl_examples
from tumbler_backends.training.torch.policy import Policy, load_policy
from tumbler_backends.training.torch.prefixes import encode, row_tree
from tumbler_backends.training.torch.settings import TorchTrainingSettings
from tumbler_backends.training.torch.tree_attention import enable_packing

CPU = torch.device("cpu")
VOCABULARY = 23
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
LAYERS = ["sliding_attention", "full_attention", "sliding_attention"]
CONFIGS = {
    "llama": lambda: LlamaConfig(**SIZES),
    "qwen2": lambda: Qwen2Config(**SIZES),
    "qwen3-windows": lambda: Qwen3Config(**SIZES, use_sliding_window=True, sliding_window=9, layer_types=LAYERS),
    "mistral-window": lambda: MistralConfig(**SIZES, sliding_window=7),
    "gemma3-windows": lambda: Gemma3TextConfig(**SIZES, sliding_window=11, layer_types=LAYERS),
    "gpt2": lambda: GPT2Config(vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=4, n_positions=512),
}
COMPONENT = Component(id="test", version="0", settings_hash="")
MODELS: dict[tuple[str, torch.dtype], dict[bool, Policy]] = {}


def policies(architecture: str, dtype: torch.dtype = torch.float64) -> dict[bool, Policy]:
    """Return the same model without and with shared prefixes; made once."""
    if (architecture, dtype) not in MODELS:
        MODELS[architecture, dtype] = {share: policy(architecture, dtype, share=share) for share in (False, True)}
    return MODELS[architecture, dtype]


def policy(architecture: str, dtype: torch.dtype, *, share: bool) -> Policy:
    return Policy(tiny_model(CONFIGS[architecture]()).to(dtype), share_prefixes=share)


def tiny_model(config):
    """Return a random model whose norms compute in its own type, where Hugging Face's round to float32."""
    torch.manual_seed(3)
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = functools.partial(norm, module)
    return model


def norm(module: torch.nn.Module, states: torch.Tensor) -> torch.Tensor:
    scale = module.weight + type(module).__name__.startswith("Gemma")
    return scale * states * torch.rsqrt(states.square().mean(-1, keepdim=True) + 1e-6)


def rollout(rows: list[list[int]], *, anchor: int = 0, temperature: float = 1.0) -> Trajectory:
    """Return a trajectory with a chunk of 4 in every 6 tokens; those up to `anchor` of the first row are replayed."""
    chunks = []
    for segment, row in enumerate(rows):
        for start in range(2, len(row), 6):
            end = min(start + 4, len(row))
            if segment == 0 and end <= anchor:
                chunks.append(Chunk(segment=0, start=start, end=end, replayed=True, sampled=False, trainable=False))
            elif segment or start >= anchor:
                logprobs = tuple(-0.1 * (1 + step) for step in range(end - start))
                chunks.append(
                    Chunk(segment=segment, start=start, end=end, behaviour_logprobs=logprobs, policy_version=0)
                )
    record = Trajectory(
        header=Header(id="a", task="t", env=COMPONENT, agent=COMPONENT, temperature=temperature),
        segments=tuple(
            Segment(id=index, token_ids=tuple(row), cause="rewrite" if index else "start")
            for index, row in enumerate(rows)
        ),
        chunks=tuple(chunks),
        reward=1.0,
        success=True,
    )
    verify_trajectory(record)
    return record


def credited(records: list[Trajectory]) -> list[CreditedTrajectory]:
    return [
        CreditedTrajectory(trajectory=each, credits=tuple(0.5 - 0.3 * (k % 3) for k in range(len(each.chunks))))
        for each in records
    ]


def from_one_anchor(length: int, anchor: int, count: int = 8, seed: int = 0) -> list[Trajectory]:
    generator = torch.Generator().manual_seed(seed)
    expert = torch.randint(VOCABULARY, (length,), generator=generator).tolist()
    tails = torch.randint(VOCABULARY, (count, length - anchor), generator=generator).tolist()
    return [rollout([[*expert[:anchor], *tail]], anchor=anchor) for tail in tails]


@st.composite
def ragged_groups(draw) -> list[Trajectory]:
    """Draw groups of rollouts: nested anchors on an expert, repeated and contained rows, rewritten contexts."""
    random = torch.Generator().manual_seed(draw(st.integers(0, 1000)))

    def tokens(count: int) -> list[int]:
        return torch.randint(VOCABULARY, (count,), generator=random).tolist()

    records = []
    for _ in range(draw(st.integers(1, 3))):
        expert = tokens(60)
        for _ in range(draw(st.integers(1, 3))):
            anchor = draw(st.integers(0, 59))
            for _ in range(draw(st.integers(1, 6))):
                rows = [[*expert[:anchor], *tokens(draw(st.sampled_from([0, 1, 7, 20, 41])))]]
                if draw(st.booleans()):
                    rows.append([*expert[: draw(st.integers(0, 40))], *tokens(5)])
                temperature = draw(st.sampled_from([1.0, 0.7]))
                records.append(rollout([row or [1, 2, 3] for row in rows], anchor=anchor, temperature=temperature))
    return records


def score(policy: Policy, examples) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
    """Return log-probabilities, entropies and the gradients of a weighted sum of the former."""
    policy.zero_grad()
    scores = policy(collate(examples, device=CPU))
    (scores.logprobs * torch.linspace(-1, 2, len(scores.logprobs), dtype=scores.logprobs.dtype)).sum().backward()
    gradients = {name: each.grad for name, each in policy.named_parameters() if each.grad is not None}
    return scores.logprobs.detach(), scores.entropies, {name: grad.clone() for name, grad in gradients.items()}


def assert_same(both: dict[bool, Policy], examples, tolerance: float) -> None:
    plain, shared = (score(both[share], examples) for share in (False, True))
    assert plain[2].keys() == shared[2].keys()
    torch.testing.assert_close(shared[:2], plain[:2], rtol=tolerance, atol=tolerance)
    for name, gradient in plain[2].items():
        assert (shared[2][name] - gradient).norm() <= tolerance * gradient.norm(), name


@pytest.mark.parametrize("architecture", CONFIGS)
@settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow])
@given(records=ragged_groups())
def test_shared_prefixes_change_no_log_probability_and_no_gradient(architecture, records):
    both = policies(architecture)
    assert (both[False].shares, both[True].shares) == (False, True)
    if examples := rl_examples(credited(records)):
        assert_same(both, examples, 1e-9)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_nested_anchors_change_no_log_probability_and_no_gradient(architecture):
    generator = torch.Generator().manual_seed(0)
    expert = torch.randint(VOCABULARY, (60,), generator=generator).tolist()
    tails = torch.randint(VOCABULARY, (3, 7, 12), generator=generator).tolist()
    records = [
        rollout([[*expert[:anchor], *tail]], anchor=anchor)
        for anchor, own in zip((24, 36, 54), tails, strict=True)
        for tail in own
    ]
    examples = rl_examples(credited(records))
    assert computed_tokens(examples, share=True) == 54 + 21 * 12
    assert_same(policies(architecture), examples, 1e-9)


@pytest.mark.parametrize("architecture", CONFIGS)
def test_rollouts_from_half_of_the_trajectory_cost_three_fifths_at_most(architecture):
    examples = rl_examples(credited(from_one_anchor(100, 50)))
    computed = computed_tokens(examples, share=True)
    assert computed == collate(examples, device=CPU).packed.token_ids.numel() == 50 + 8 * 50
    assert computed <= 0.6 * sum(sum(each.lengths) for each in examples)
    assert_same(policies(architecture, torch.float32), examples, 1e-5)


def test_the_model_itself_sees_no_more_than_the_computed_tokens():
    shared = policies("llama")[True]
    examples = rl_examples(credited(from_one_anchor(60, 30)))
    seen = []
    embedding = shared.model.get_input_embeddings()
    hook = embedding.register_forward_pre_hook(lambda _, args: seen.append(args[0].numel()))
    shared(collate(examples, device=CPU))
    hook.remove()
    assert seen == [computed_tokens(examples, share=True)] == [30 + 8 * 30]


def test_anchors_on_one_expert_are_nested():
    generator = torch.Generator().manual_seed(0)
    expert = torch.randint(VOCABULARY, (120,), generator=generator).tolist()
    # A first own token for each rollout, so that no two go on alike by chance.
    rows = [[*expert[:at], 100 + 10 * at + own] for at in (30, 60, 90) for own in range(8)]
    tree = row_tree([encode(row) for row in rows])
    assert tree.computed == 90 + 24
    assert {run.start for run in tree.runs} == {0, 30, 60, 90}


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 1), st.integers(1, 60), st.lists(st.integers(0, 300), max_size=12)), min_size=1
    )
)
def test_a_rows_path_spells_the_row(rows):
    expert = [[256 * step % 999 for step in range(60)], [65536 + step for step in range(60)]]
    spelt = [[*expert[one][:count], *own] for one, count, own in rows]
    tree = row_tree([encode(row) for row in spelt])
    for row, last in zip(spelt, tree.last, strict=True):
        path = [tree.runs[index] for index in tree.path(last)]
        assert path[0].start == 0
        assert all(one.end == other.start for one, other in pairwise(path))
        assert [token for run in path for token in spelt[run.row][run.start : run.end]][: len(row)] == row
        assert path[-1].end == len(row)
    assert tree.computed <= tree.padded == len(rows) * max(map(len, spelt))


def test_rows_without_a_common_prefix_of_one_length_stay_as_they_are():
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(VOCABULARY, (6, 30), generator=generator).tolist()
    examples = rl_examples(credited([rollout([row]) for row in rows]))
    assert collate(examples, device=CPU).packed is None
    assert computed_tokens(examples, share=True) == computed_tokens(examples, share=False) == 180


def test_each_token_sees_what_is_before_it_and_a_window_ends_that():
    packed = collate(rl_examples(credited(from_one_anchor(60, 30))), device=CPU).packed
    root, suffixes = packed.bundles
    assert root.mask(None, torch.float32) is None
    assert root.mask(30, torch.float32) is None
    assert int((root.mask(4, torch.float32) == 0).sum()) == 1 + 2 + 3 + 27 * 4
    mask = suffixes.mask(None, torch.float32)
    assert mask.shape == (1, 1, 30, 60)
    assert (mask[0, 0] == 0).sum(-1).tolist() == list(range(31, 61))
    assert (suffixes.mask(5, torch.float32)[0, 0] == 0).sum(-1).tolist() == [5] * 30
    assert suffixes.mask(None, torch.float32) is mask


def test_runs_of_very_different_length_are_not_padded_to_one_another():
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(VOCABULARY, (n,), generator=generator).tolist() for n in (198, 102, 96, 24, 18, 6)]
    packed = collate(rl_examples(credited([rollout([row]) for row in rows])), device=CPU).packed
    assert [tuple(bundle.own.shape) for bundle in packed.bundles] == [(2, 198), (1, 96), (2, 24), (1, 6)]


@pytest.mark.parametrize("tokens", [1, 130, 400, 10_000])
def test_micro_batches_of_computed_tokens_keep_the_budget_and_groups_together(tokens):
    groups = [rl_examples(credited(from_one_anchor(48, 36, seed=seed))) for seed in range(4)]
    examples = [group[index] for index in range(8) for group in groups]
    batches = micro_batches(examples, tokens=tokens, share=True)
    assert sorted(id(each) for batch in batches for each in batch) == sorted(id(each) for each in examples)
    group_of = {id(each): number for number, group in enumerate(groups) for each in group}
    order = [group_of[id(each)] for batch in batches for each in batch]
    assert sum(one != other for one, other in pairwise(order)) == 3
    for batch in batches:
        assert len(batch) == 1 or computed_tokens(batch, share=True) <= tokens
    # A group whole: 36 + 8 * 12 tokens, and 8 * 36 that are read again and count as 18.
    assert len(batches) == {1: 32, 130: 8, 400: 2, 10_000: 1}[tokens]


def test_tokens_that_are_read_again_count_too():
    examples = rl_examples(credited(from_one_anchor(504, 492, count=40)))
    assert computed_tokens(examples, share=True) == 492 + 40 * 12
    assert len(micro_batches(examples, tokens=492 + 40 * 12, share=True)) == 4


@pytest.mark.parametrize("rule", [{}, {"old_policy": "recompute", "epochs": 2, "minibatches": 2}])
@pytest.mark.parametrize("tokens", [120, 10_000])
async def test_steps_are_those_without_shared_prefixes(rule, tokens, start, algorithm, weights_of):
    batch = credited([*from_one_anchor(48, 36), *from_one_anchor(40, 20, seed=1)])
    seen = []
    for share in (False, True):
        backend = await start("rl", architecture="gpt2", micro_batch_tokens=tokens, share_prefixes=share)
        reports = [await backend.step(batch, algorithm(**rule)) for _ in range(2)]
        seen.append(([each.metrics for each in reports], weights_of(backend)))
    (plain, plain_weights), (shared, shared_weights) = seen
    for name in ("train/loss", "train/gradient_norm", "train/entropy", "train/tokens", "test/credit"):
        assert [each[name] for each in shared] == pytest.approx([each[name] for each in plain], rel=1e-9), name
    torch.testing.assert_close(shared_weights, plain_weights, rtol=0, atol=1e-9)
    assert all(each["train/shared_share"] == 0 for each in plain)
    assert all(
        each["train/computed_tokens"] < other["train/computed_tokens"]
        for each, other in zip(shared, plain, strict=True)
    )


async def test_a_report_tells_how_many_tokens_were_computed(start, algorithm):
    backend = await start("rl")
    report = await backend.step(credited(from_one_anchor(48, 24)), algorithm(epochs=2))
    assert report.metrics["train/tokens"] == 8 * 48
    assert report.metrics["train/computed_tokens"] == 2 * (24 + 8 * 24)
    assert report.metrics["train/shared_share"] == pytest.approx(1 - 9 / 16)


async def test_a_model_with_attention_of_its_own_computes_rows_separately_and_says_so(start, algorithm):
    backend = await start("rl", architecture="gemma2")
    report = await backend.step(credited(from_one_anchor(48, 24)), algorithm())
    assert report.metrics["train/shared_share"] == 0
    assert report.metrics["train/computed_tokens"] == report.metrics["train/tokens"] == 8 * 48


class MixesTokens(torch.nn.Module):
    """A layer that looks at the token before, as convolutions do."""

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        return states + states.roll(1, dims=1)


def test_layers_that_see_other_tokens_by_other_means_are_found_out():
    convolution = tiny_model(Lfm2Config(**SIZES, layer_types=["conv", "full_attention", "conv"]))
    assert enable_packing(convolution) is False
    mixing = tiny_model(LlamaConfig(**SIZES))
    mixing.model.layers[1].mlp = MixesTokens()
    assert enable_packing(mixing) is False
    assert mixing.config._attn_implementation == "sdpa"


def test_a_window_that_is_not_asked_for_is_found_out():
    model = tiny_model(MistralConfig(**SIZES, sliding_window=256))
    assert enable_packing(model) is True
    forgetful = tiny_model(LlamaConfig(**SIZES, sliding_window=256))
    assert enable_packing(forgetful) is False


def test_other_weights_and_no_gradient_share_as_well():
    both = policies("qwen2")
    examples = rl_examples(credited(from_one_anchor(60, 30)))
    batch = collate(examples, device=CPU)
    others = {name: 0.9 * weight for name, weight in copy_weights(both[True].model).items()}
    with torch.no_grad():
        plain, shared = (both[share].score_with(others, batch).logprobs for share in (False, True))
    torch.testing.assert_close(shared, plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("architecture", "tolerance"), [("llama", 1e-5), ("gpt2", 1e-9)])
def test_gradient_checkpointing_shares_as_well(architecture, tolerance, model_folder):
    both = {
        share: load_policy(
            model_folder(architecture),
            TorchTrainingSettings(dtype="float64", gradient_checkpointing=True, share_prefixes=share),
        )
        for share in (False, True)
    }
    assert both[True].shares
    assert_same(both, rl_examples(credited(from_one_anchor(60, 30))), tolerance)
