"""The parts of the torch training backend: layout, batching, schedule, policy, plugin."""

import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from tumbler_backends.training.torch import plugin
from tumbler_backends.training.torch.batching import deal, micro_batches
from tumbler_backends.training.torch.collate import Batch, collate
from tumbler_backends.training.torch.layout import sft_examples
from tumbler_backends.training.torch.policy import Policy, load_policy
from tumbler_backends.training.torch.schedule import learning_rate
from tumbler_backends.training.torch.settings import OptimizerSettings, TorchTrainingSettings

CPU = torch.device("cpu")


@pytest.fixture
def examples(trajectory):
    """Return 40 examples of many lengths, some with two rows."""
    made = []
    for index in range(40):
        length = 5 + (index * 37) % 50
        chunks = [{"segment": 0, "start": 2, "end": length}]
        segments = (length,)
        if index % 3 == 0:
            chunks.append({"segment": 1, "start": 3, "end": 5})
            segments = (length, 9)
        made.append(trajectory(str(index), segments=segments, chunks=chunks, seed=index))
    return sft_examples(made)


def test_micro_batches_keep_the_budget_hold_each_example_once_and_pad_little(examples):
    batches = micro_batches(examples, tokens=200)
    assert sorted(id(each) for batch in batches for each in batch) == sorted(id(each) for each in examples)
    shapes = [collate(batch, device=CPU).token_ids.shape for batch in batches]
    assert all(rows * width <= 200 for rows, width in shapes)
    one_row_each = [each for each in examples if len(each.segments) == 1]
    sorted_shapes = [collate(batch, device=CPU).token_ids.numel() for batch in micro_batches(one_row_each, tokens=200)]
    tokens = sum(sum(each.lengths) for each in one_row_each)
    assert sum(sorted_shapes) <= 1.15 * tokens


def test_an_example_beyond_the_budget_passes_alone(examples):
    assert [len(batch) for batch in micro_batches(examples, tokens=1)] == [1] * len(examples)


def test_dealing_keeps_examples_whole_and_balances_their_tokens(examples):
    parts = deal(examples, parts=4, generator=torch.Generator().manual_seed(1))
    assert sorted(id(each) for part in parts for each in part) == sorted(id(each) for each in examples)
    tokens = [sum(each.loss_tokens for each in part) for part in parts]
    assert max(tokens) - min(tokens) <= max(each.loss_tokens for each in examples)
    again = deal(examples, parts=4, generator=torch.Generator().manual_seed(1))
    assert [[id(each) for each in part] for part in parts] == [[id(each) for each in part] for part in again]


def test_rows_end_with_the_last_token_of_the_loss(trajectory):
    chunks = [{"segment": 0, "start": 3, "end": 5}, {"segment": 2, "start": 2, "end": 4}]
    (example,) = sft_examples([trajectory("a", segments=(9, 30, 9), chunks=chunks)])
    assert example.segments == (0, 2)
    assert example.lengths == (5, 4)
    batch = collate([example], device=CPU)
    assert batch.token_ids.shape == (2, 5)
    assert batch.positions.tolist() == [3, 4, 7, 8]


def test_the_schedule_climbs_and_falls_to_its_end():
    cosine = OptimizerSettings(learning_rate=1.0, warmup_steps=2, schedule="cosine", min_learning_rate=0.2)
    rates = [learning_rate(cosine, step=step, steps=6) for step in range(8)]
    assert rates == pytest.approx([0.5, 1, 1, 0.8828427, 0.6, 0.3171573, 0.2, 0.2])
    constant = OptimizerSettings(learning_rate=1.0)
    assert [learning_rate(constant, step=step, steps=1) for step in range(3)] == [1, 1, 1]


@given(
    schedule=st.sampled_from(["constant", "cosine", "linear"]),
    warmup=st.integers(0, 20),
    steps=st.integers(0, 30),
    step=st.integers(0, 60),
)
def test_no_learning_rate_leaves_its_bounds(schedule, warmup, steps, step):
    settings = OptimizerSettings(learning_rate=1.0, warmup_steps=warmup, schedule=schedule, min_learning_rate=0.01)
    assert 0 < learning_rate(settings, step=step, steps=steps) <= 1


@pytest.mark.parametrize(
    ("architecture", "splits"),
    [("llama", True), ("llama-untied", True), ("qwen2", True), ("gpt2", True), ("gemma2", False)],
)
def test_hidden_states_are_selected_first_where_the_head_allows_it(architecture, splits, model_folder):
    settings = TorchTrainingSettings(dtype="float64")
    assert load_policy(model_folder(architecture), settings).splits is splits


def test_a_cap_is_found_even_if_the_logits_are_far_below_it(model_folder):
    logging.disable_progress_bar()
    model = AutoModelForCausalLM.from_pretrained(model_folder("gemma2"), final_logit_softcapping=30.0)
    with torch.no_grad():
        model.model.embed_tokens.weight.mul_(1e-3)
        assert model(input_ids=torch.arange(8)[None]).logits.abs().max() < 0.1
    assert Policy(model).splits is False


@pytest.mark.parametrize("entropy_gradient", [False, True])
def test_logits_in_blocks_change_neither_values_nor_gradients(entropy_gradient, model_folder):
    logging.disable_progress_bar()
    tokens = torch.randint(3, 23, (2, 12), generator=torch.Generator().manual_seed(0))
    batch = Batch(
        token_ids=tokens,
        positions=torch.tensor([1, 2, 3, 7, 13, 20, 23]),
        temperatures=torch.linspace(0.5, 2, 7, dtype=torch.float64),
    )
    results = []
    for logits_at_once in (1, 23 * 3, 1 << 20):
        model = AutoModelForCausalLM.from_pretrained(model_folder("llama"), dtype=torch.float64).eval()
        policy = Policy(model, logits_at_once=logits_at_once)
        logprobs, entropies, _ = policy(batch, entropy_gradient=entropy_gradient)
        assert entropies.requires_grad is entropy_gradient
        (logprobs * torch.arange(7) + entropies * torch.arange(7, 0, -1)).sum().backward()
        results.append((logprobs.detach(), entropies.detach(), model.lm_head.weight.grad))
    logits = model(input_ids=tokens).logits.flatten(0, 1)[batch.positions - 1]
    full = torch.log_softmax(logits / batch.temperatures[:, None], -1)
    chosen, entropies = full.gather(-1, tokens.flatten()[batch.positions][:, None])[:, 0], -(full.exp() * full).sum(-1)
    bonus = entropies if entropy_gradient else entropies.detach()
    model.zero_grad()
    (chosen * torch.arange(7) + bonus * torch.arange(7, 0, -1)).sum().backward()
    for found in results:
        torch.testing.assert_close(found, (chosen.detach(), entropies.detach(), model.lm_head.weight.grad))


def test_a_forbidden_token_leaves_entropy_and_its_gradient_finite(model_folder):
    logging.disable_progress_bar()
    policy = Policy(AutoModelForCausalLM.from_pretrained(model_folder("llama-untied"), dtype=torch.float64).eval())
    forbidden = torch.tensor([2])
    policy.model.lm_head.register_forward_hook(lambda _, _args, logits: logits.index_fill(-1, forbidden, -torch.inf))
    batch = Batch(token_ids=torch.tensor([[5, 6, 7]]), positions=torch.tensor([1, 2]), temperatures=None)
    entropies = policy(batch, entropy_gradient=True).entropies
    entropies.sum().backward()
    assert (entropies > 0).all()
    gradient = policy.model.lm_head.weight.grad
    assert gradient.isfinite().all() and gradient.abs().max().item() > 0


def test_padding_changes_no_log_probability(model_folder, examples):
    policy = load_policy(model_folder("llama"), TorchTrainingSettings())
    with torch.no_grad():
        together = policy(collate(examples, device=CPU)).logprobs
        alone = torch.cat([policy(collate([each], device=CPU)).logprobs for each in examples])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_attention_takes_the_fast_path_without_a_mask(model_folder, examples):
    policy = load_policy(model_folder("llama"), TorchTrainingSettings(share_prefixes=False))
    assert policy.model.config._attn_implementation == "sdpa"
    masks = []
    layer = policy.model.model.layers[0].self_attn
    layer.register_forward_pre_hook(lambda _, _args, named: masks.append(named["attention_mask"]), with_kwargs=True)
    policy(collate(examples, device=CPU))
    assert masks == [None]


def test_the_plugin_offers_the_backend_and_imports_nothing_heavy():
    (spec,) = plugin.tumbler_backends()
    assert (spec.name, spec.roles, spec.extra) == ("torch", ("training",), "train")
    assert spec.config() is TorchTrainingSettings
    assert spec.load().__name__ == "TorchTraining"
    code = (
        "import sys, tumbler_backends.training.torch.plugin as plugin; plugin.tumbler_backends();"
        "print(sorted({'torch', 'transformers', 'accelerate', 'pydantic'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
