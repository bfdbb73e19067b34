"""GRPO, GSPO and CISPO against the losses of TRL's own trainer, on the same model and batch."""

from dataclasses import dataclass

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tumbler.contracts.batch import TokenBatch
from tumbler_algorithms.cispo.algorithm import CISPO
from tumbler_algorithms.cispo.settings import CISPOSettings
from tumbler_algorithms.grpo.algorithm import GRPO
from tumbler_algorithms.grpo.settings import GRPOSettings
from tumbler_algorithms.gspo.algorithm import GSPO
from tumbler_algorithms.gspo.settings import GSPOSettings

trl = pytest.importorskip("trl")
datasets = pytest.importorskip("datasets")

LENGTH = 9
"""Tokens of the longest completion; TRL's `max_completion_length`."""

OURS = {
    "grpo": {"normalisation": "trajectory-mean"},
    "bnpo": {"normalisation": "token-mean"},
    "dapo": {"normalisation": "token-mean"},
    "dr_grpo": {"normalisation": "constant", "constant_length": LENGTH},
}
"""TRL's loss types, and what averages alike."""

LEVELS = {"token": "token", "sequence": "trajectory"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One trainer of TRL, what its loss is given, and the same as a `TokenBatch`."""

    trainer: object
    inputs: dict
    batch: TokenBatch

    def theirs(self):
        """The loss of TRL, and its gradient by all weights."""
        return self.differentiate(self.trainer.compute_loss(self.trainer.model, self.inputs))

    def ours(self, algorithm):
        """The loss of Tumbler, and its gradient by the same weights."""
        output = algorithm.loss(self.batch)
        return self.differentiate(output.total / output.denominator)

    def differentiate(self, loss):
        weights = list(self.trainer.model.parameters())
        gradients = torch.autograd.grad(loss, weights, retain_graph=True)
        return loss.item(), torch.cat([each.flatten() for each in gradients])


def tokenizer():
    words = {"<pad>": 0, "<eos>": 1, **{f"w{index}": index for index in range(2, 32)}}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="<pad>")), pad_token="<pad>", eos_token="<eos>"
    )


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """A function from TRL's options to a case: three rollouts of one to three chunks, some ratios out of bounds."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("trl")
    config = LlamaConfig(
        vocab_size=32,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    # With a penalty TRL loads the reference from where the model came.
    model = LlamaForCausalLM.from_pretrained(folder / "model")

    def make(**options):
        config = trl.GRPOConfig(
            output_dir=str(folder / "out"),
            use_cpu=True,
            bf16=False,
            activation_checkpointing=False,
            report_to=[],
            num_generations=3,
            per_device_train_batch_size=3,
            max_completion_length=LENGTH,
            **options,
        )
        trainer = trl.GRPOTrainer(
            model=model,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            args=config,
            train_dataset=datasets.Dataset.from_dict({"prompt": ["w2"]}),
            processing_class=tokenizer(),
        )
        # As in evaluation: without dropout, and without the share of an accumulation window.
        trainer.model.double().eval()
        return case(trainer)

    return make


def case(trainer):
    generator = torch.Generator().manual_seed(7)
    prompt_ids = torch.randint(2, 32, (3, 4), generator=generator)
    prompt_mask = torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1], [0, 1, 1, 1]])
    completion_ids = torch.randint(2, 32, (3, LENGTH), generator=generator)
    completion_mask = (torch.arange(LENGTH) < torch.tensor([[9], [6], [4]])).long()
    chunks = torch.tensor(
        [[0, 0, 0, -1, 1, 1, -1, -1, 2], [3, 3, -1, 4, 4, 4, -1, -1, -1], [5, 5, 5, 5, -1, -1, -1, -1, -1]]
    )
    advantages = torch.tensor([1.2, -0.9, -0.3], dtype=torch.float64)
    logprobs, entropies, _ = trainer._get_per_token_logps_and_entropies(
        trainer.model,
        torch.cat([prompt_ids, completion_ids], dim=1),
        torch.cat([prompt_mask, completion_mask], dim=1),
        LENGTH,
        compute_entropy=True,
    )
    old, initial = (
        logprobs.detach() + spread * torch.randn(logprobs.shape, generator=generator, dtype=torch.float64)
        for spread in (0.4, 0.3)
    )
    inputs = {
        "prompt_ids": prompt_ids,
        "prompt_mask": prompt_mask,
        "completion_ids": completion_ids,
        "completion_mask": completion_mask,
        "tool_mask": (chunks >= 0).long(),
        "advantages": advantages,
        "old_per_token_logps": old,
        "ref_per_token_logps": initial,
        "num_items_in_batch": (chunks >= 0).sum(),
    }

    def whole(completion, fill=0.0):
        return torch.cat([completion.new_full((3, 4), fill), completion], dim=1)

    trajectory = torch.tensor([0, 0, 0, 1, 1, 2])
    batch = TokenBatch(
        token_ids=torch.cat([prompt_ids, completion_ids], dim=1),
        policy_logprobs=whole(logprobs),
        old_logprobs=whole(old),
        behaviour_logprobs=whole(old),
        reference_logprobs=whole(initial),
        entropies=whole(entropies),
        chunk_of_token=whole(chunks, -1),
        imitation_mask=torch.zeros(3, 4 + LENGTH, dtype=torch.bool),
        chunk_credit=advantages[trajectory],
        chunk_trajectory=trajectory,
        chunk_position=torch.tensor([0, 1, 2, 0, 1, 0]),
        reward=torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64),
    )
    return Case(trainer=trainer, inputs=inputs, batch=batch)


def agree(case, algorithm):
    (their_loss, their_gradient), (our_loss, our_gradient) = case.theirs(), case.ours(algorithm)
    assert abs(their_loss) > 1e-3
    assert their_gradient.abs().max() > 1e-3
    assert our_loss == pytest.approx(their_loss, rel=1e-6, abs=1e-6)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("loss_type", OURS)
def test_the_loss_types_of_trl_agree_at_both_levels(build, loss_type, level):
    case = build(loss_type=loss_type, importance_sampling_level=level, epsilon=0.1, epsilon_high=0.15)
    rule = GRPOSettings(clip_low=0.1, clip_high=0.15, ratio_level=LEVELS[level], **OURS[loss_type])
    agree(case, GRPO(rule))


@pytest.mark.parametrize("level", LEVELS)
def test_divergence_from_the_initial_weights_and_dual_clip_agree(build, level):
    case = build(loss_type="bnpo", importance_sampling_level=level, beta=0.2, use_bias_correction_kl=False, delta=1.3)
    rule = GRPOSettings(
        ratio_level=LEVELS[level], normalisation="token-mean", kl_weight=0.2, kl_reference="initial", dual_clip=1.3
    )
    agree(case, GRPO(rule))


def test_gspo_is_trls_sequence_level(build):
    case = build(loss_type="grpo", importance_sampling_level="sequence", epsilon=0.05, epsilon_high=0.3)
    for variant in ("sequence", "token"):
        agree(case, GSPO(GSPOSettings(clip_low=0.05, clip_high=0.3, variant=variant)))


def test_cispo_agrees_whose_bound_trl_counts_from_0(build):
    agree(build(loss_type="cispo", epsilon_high=1.25), CISPO(CISPOSettings(clip_high=0.25)))
