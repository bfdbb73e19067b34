"""Low-rank adaptation in the torch training backend: what is trained, published, and in checkpoints."""

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from transformers.utils import logging

from tumbler.contracts.batch import CreditedTrajectory
from tumbler.contracts.inference import WeightUpdate
from tumbler.errors import InferenceError, RunError, RunFolderError
from tumbler_backends.inference.transformers.weights import put_weights
from tumbler_backends.training.torch.settings import LoraSettings

LORA = LoraSettings(rank=4, alpha=8, target_modules=("q_proj", "down_proj"))
ADAPTED = {
    f"model.layers.{layer}.{name}.weight" for layer in range(2) for name in ("self_attn.q_proj", "mlp.down_proj")
}


@pytest.fixture
def credited(mixed_batch) -> list[CreditedTrajectory]:
    return [CreditedTrajectory(trajectory=each, credits=(0.5,) * len(each.chunks)) for each in mixed_batch]


def load(folder):
    logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64)


async def test_only_the_adapted_matrices_change_and_are_published(start, mixed_batch, weights_of, model_folder):
    backend = await start("sft", lora=LORA)
    base = load(model_folder("llama")).state_dict()
    published = weights_of(backend)
    assert backend.weights().partial
    assert published.keys() == ADAPTED
    for name, tensor in published.items():
        assert torch.equal(tensor, base[name]), "an adapter begins without a change"
    losses = [(await backend.fit_sft(mixed_batch)).metrics["train/loss"] for _ in range(8)]
    assert losses[-1] < losses[0] - 0.2
    for name, tensor in weights_of(backend).items():
        change = tensor - base[name]
        assert 0 < torch.linalg.matrix_rank(change).item() <= LORA.rank
    assert not torch.equal(weights_of(backend)[name], published[name])


@pytest.mark.parametrize(
    ("architecture", "lora"),
    [("llama", LORA), ("gpt2", LoraSettings(rank=2, target_modules=("c_attn",))), ("qwen2", LoraSettings(rank=2))],
)
async def test_what_is_published_computes_what_is_trained(architecture, lora, start, credited, algorithm, model_folder):
    backend = await start("rl", architecture=architecture, lora=lora)
    for _ in range(3):
        await backend.step(credited, algorithm())
    method = algorithm()
    served = load(model_folder(architecture)).eval()
    put_weights(served, backend.weights())
    await backend.step(credited[3:], method)
    (batch,) = method.seen
    with torch.no_grad():
        logprobs = served(input_ids=batch.token_ids).logits.log_softmax(-1)
    expected = logprobs[:, :-1].gather(-1, batch.token_ids[:, 1:, None]).squeeze(-1)
    trained = batch.chunk_of_token[:, 1:] >= 0
    torch.testing.assert_close(batch.policy_logprobs[:, 1:][trained].detach(), expected[trained], rtol=0, atol=1e-6)


# peft asks for what transformers has renamed.
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
async def test_a_checkpoint_has_the_adapter_and_the_merged_model_and_goes_on_from_it(
    start, credited, algorithm, weights_of, model_folder, tmp_path
):
    straight = await start("rl", lora=LORA, seed=4, snapshots=4)
    for _ in range(2):
        await straight.step(credited, algorithm())
        straight.weights()
    await straight.save(tmp_path / "one")
    merged = load(tmp_path / "one" / "model")
    published = weights_of(straight)
    assert all(torch.equal(merged.state_dict()[name], tensor) for name, tensor in published.items())
    with_adapter = PeftModel.from_pretrained(load(model_folder("llama")), str(tmp_path / "one" / "adapter"))
    tokens = torch.arange(3, 20)[None]
    with torch.no_grad():
        torch.testing.assert_close(with_adapter(tokens).logits, merged(tokens).logits, rtol=0, atol=1e-6)
    resumed = await start(None, lora=LORA, seed=99, snapshots=4)
    await resumed.load(tmp_path / "one")
    for backend in (straight, resumed):
        method = algorithm(old_policy="snapshot", epochs=2, minibatches=2)
        await backend.step(credited, method)
    ours, theirs = weights_of(resumed), weights_of(straight)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert resumed.version == 3


async def test_a_reference_and_values_work_with_an_adapter(start, credited, algorithm):
    backend = await start("rl", lora=LORA)
    method = algorithm(reference=True, values=True)
    for _ in range(2):
        await backend.step(credited, method)
    first, second = method.seen
    assert torch.equal(first.reference_logprobs, second.reference_logprobs)
    assert (second.policy_logprobs - second.reference_logprobs).abs().max().item() > 1e-3


@pytest.mark.parametrize("checkpointing", [False, True])
async def test_dropout_is_in_passes_that_learn_alone_and_goes_on_after_loading(
    checkpointing, start, credited, algorithm, weights_of, tmp_path
):
    settings = {"lora": LORA.model_copy(update={"dropout": 0.5}), "gradient_checkpointing": checkpointing}
    backend = await start("rl", **settings)
    method = algorithm(epochs=2)
    state = torch.get_rng_state()
    for _ in range(2):
        await backend.step(credited, method)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(method.seen[2].old_logprobs, method.seen[2].policy_logprobs.detach())
    await backend.save(tmp_path / "one")
    resumed = await start(None, **settings)
    await resumed.load(tmp_path / "one")
    seen = []
    for each in (backend, resumed):
        method = algorithm(epochs=2)
        await each.step(credited, method)
        seen.append(method.seen[0].old_logprobs)
    assert torch.equal(*seen)
    ours, theirs = weights_of(resumed), weights_of(backend)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


async def test_checkpoints_of_other_adapters_models_and_none_are_refused(start, model_folder, tmp_path):
    await (await start("sft", lora=LORA)).save(tmp_path / "one")
    await (await start("sft")).save(tmp_path / "plain")
    with pytest.raises(RunFolderError, match="has an adapter and this run trains none"):
        await (await start(None)).load(tmp_path / "one")
    with pytest.raises(RunFolderError, match="has no adapter and this run trains one"):
        await (await start(None, lora=LORA)).load(tmp_path / "plain")
    with pytest.raises(RunFolderError, match="belongs to another model"):
        await (await start(None, lora=LORA, architecture="llama-untied")).load(tmp_path / "one")
    with pytest.raises(RunFolderError, match=r"has lora = \{'rank': 4.*and this run another"):
        await (await start(None, lora=LORA.model_copy(update={"rank": 2}))).load(tmp_path / "one")


@pytest.mark.parametrize(
    ("targets", "problem"),
    [
        (("nowhere",), "do not fit the model"),
        (("embed_tokens",), "is no linear layer"),
        (("lm_head",), "are those of another layer as well"),
    ],
)
async def test_targets_that_cannot_be_adapted_are_refused(targets, problem, start):
    with pytest.raises(RunError, match=problem):
        await start("sft", lora=LoraSettings(target_modules=targets))


def test_an_update_may_leave_out_weights_only_if_it_says_so(model_folder):
    model = load(model_folder("llama"))
    name = "model.norm.weight"
    tensors = {name: torch.full_like(model.state_dict()[name], 3.0)}
    with pytest.raises(InferenceError, match="is missing"):
        put_weights(model, WeightUpdate(version=1, tensors=tensors.items))
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    put_weights(model, WeightUpdate(version=1, tensors=tensors.items, partial=True))
    changed = {key for key, tensor in model.state_dict().items() if not torch.equal(tensor, before[key])}
    assert changed == {name}
    with pytest.raises(InferenceError, match="nowhere is unknown"):
        put_weights(model, WeightUpdate(version=2, tensors={"nowhere": tensors[name]}.items, partial=True))
