"""TRL's trainers, built so that they take rows that are already there: no loop, no generation, no files, no network."""

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy
import torch
from datasets import Dataset  # type: ignore[import-untyped]  # it ships no types
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase, Trainer
from transformers.trainer_callback import PrinterCallback
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.sft_config import SFTConfig
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling, SFTTrainer

from tumbler_backends.training.folders import quiet
from tumbler_backends.training.trl.settings import LossSettings, OptimizerSettings, TRLTrainingSettings

__all__ = ["PolicyTrainer", "SupervisedTrainer", "policy_trainer", "supervised_trainer"]

SCHEDULES = {"constant": "constant_with_warmup", "cosine": "cosine", "linear": "linear"}
"""Our names of schedules → Hugging Face's."""
CHECKPOINTING = (
    "activation_checkpointing" if hasattr(SFTConfig, "activation_checkpointing") else "gradient_checkpointing"
)
"""Its name, which transformers 5 changed within the major version."""
NOT_TRL = {"sampling_correction", "sampling_clip_max", "sampling_clip_min"}
"""Settings of the loss that `GRPOConfig` has under other names."""


class SupervisedTrainer(SFTTrainer):
    """TRL's supervised trainer."""

    def _send_telemetry(self) -> None:
        """Tell nobody: training must work without a network."""


class PolicyTrainer(GRPOTrainer):
    """TRL's GRPO trainer on rollouts and advantages that come from outside."""

    def _send_telemetry(self) -> None:
        """Tell nobody: training must work without a network."""

    def _prepare_inputs(self, generation_batch: dict[str, Any]) -> dict[str, Any]:
        """Take the inputs of the loss as they are, where TRL would generate and score completions."""
        return Trainer._prepare_inputs(self, generation_batch)

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Tensor:
        """Return TRL's loss, weighted by the micro-batch's share.

        TRL takes the plain mean over the micro-batches of an optimizer step; with the share their split changes
        nothing.
        """
        # TRL scales its token count from a generation to an optimizer step; here they are the same.
        cast("GRPOConfig", self.args).steps_per_generation = self.current_gradient_accumulation_steps
        loss = cast("Tensor", super().compute_loss(model, inputs, return_outputs, num_items_in_batch))
        return loss * inputs["share"]

    @torch.no_grad()
    def logprobs(self, model: nn.Module, inputs: Mapping[str, Tensor]) -> Tensor:
        """Return the log-probability of each completion token, [B, C]."""
        ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1).to(self.args.device)
        mask = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1).to(self.args.device)
        width = inputs["completion_ids"].shape[1]
        scores: Tensor = self._get_per_token_logps_and_entropies(model, ids, mask, width)[0]
        return scores


def supervised_trainer(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, settings: TRLTrainingSettings, *, scratch: Path
) -> SupervisedTrainer:
    """Return TRL's supervised trainer for the model; `scratch` is a folder for files of no use."""
    arguments = SFTConfig(
        **_arguments(settings.sft, settings, scratch),
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        loss_type="nll",
    )
    with _random_state_kept():
        trainer = SupervisedTrainer(
            model,
            arguments,
            data_collator=DataCollatorForLanguageModeling(pad_token_id=0),
            train_dataset=Dataset.from_dict({"input_ids": [[0]], "labels": [[0]]}),
            processing_class=tokenizer,
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


def policy_trainer(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: TRLTrainingSettings,
    *,
    scratch: Path,
    temperature: float,
) -> PolicyTrainer:
    """Return TRL's GRPO trainer for the model.

    Args:
        model: the policy; with `loss.beta` its weights of now are the reference.
        tokenizer: the model's.
        settings: optimizer and loss.
        scratch: a folder for files of no use.
        temperature: by which logits are divided.
    """
    loss = settings.loss
    if loss.beta:
        # TRL loads the reference from where the model says that it came from.
        with quiet():
            model.save_pretrained(scratch / "reference")
        model.config._name_or_path = str(scratch / "reference")
    arguments = GRPOConfig(
        **_arguments(settings.rl, settings, scratch),
        **loss.model_dump(exclude=NOT_TRL),
        temperature=temperature,
        per_device_train_batch_size=2,
        num_generations=2,
    )
    with _random_state_kept(), quiet():
        trainer = PolicyTrainer(
            model,
            [_no_reward],
            arguments,
            train_dataset=Dataset.from_dict({"prompt": [""]}),
            processing_class=tokenizer,
        )
    trainer.remove_callback(PrinterCallback)
    _correct_sampling(trainer, loss)
    return trainer


def _arguments(optimizer: OptimizerSettings, settings: TRLTrainingSettings, scratch: Path) -> dict[str, Any]:
    return {
        "output_dir": str(scratch),
        "report_to": "none",
        "disable_tqdm": True,
        "save_strategy": "no",
        "logging_strategy": "no",
        "bf16": settings.mixed_precision == "bf16",
        "use_cpu": not torch.accelerator.is_available(),  # without an accelerator, bf16 has to be asked for on the CPU
        CHECKPOINTING: False,  # the model does so by itself
        "learning_rate": optimizer.learning_rate,
        "adam_beta1": optimizer.betas[0],
        "adam_beta2": optimizer.betas[1],
        "weight_decay": optimizer.weight_decay,
        "warmup_steps": optimizer.warmup_steps,
        "lr_scheduler_type": SCHEDULES[optimizer.schedule],
        "max_grad_norm": optimizer.max_grad_norm,
    }


def _correct_sampling(trainer: PolicyTrainer, loss: LossSettings) -> None:
    """Let TRL's loss read the importance sampling ratio that comes with the inputs.

    TRL does so for vLLM alone; asked for in its settings, that would also start vLLM.
    """
    trainer.use_vllm = loss.sampling_correction != "none"
    trainer.vllm_importance_sampling_correction = trainer.use_vllm


def _no_reward(**_columns: object) -> list[float | None]:
    """Stand where TRL wants a reward function; rewards have become advantages before TRL sees them."""
    raise NotImplementedError("TRL was asked for rewards, though rollouts come with their advantages")


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Undo the seeding of the process's random generators by Hugging Face's Trainer."""
    python, numbers = random.getstate(), numpy.random.get_state()
    with torch.random.fork_rng():
        yield
    random.setstate(python)
    numpy.random.set_state(numbers)
