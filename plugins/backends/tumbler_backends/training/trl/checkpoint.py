"""The model that TRL's trainers train, and the checkpoints of this backend; knows no trainer."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from tumbler.contracts.inference import Canary
from tumbler.errors import RunError, RunFolderError
from tumbler_backends.training import folders
from tumbler_backends.training.canary import canary_tokens
from tumbler_backends.training.trl.settings import TRLTrainingSettings

__all__ = ["Policy", "load_policy", "read_state", "write_checkpoint"]

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Policy:
    """A model in training, its tokenizer for TRL, and the configurations of the folder that it came from.

    TRL writes its padding and its choice of cache into the model's own configurations, and dropout is switched
    off there; checkpoints get the ones that are kept here.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    config: PreTrainedConfig
    generation: GenerationConfig | None

    def release(self) -> None:
        """Take TRL's output head and Accelerate's mixed precision off the model, for the next trainer to put on."""
        for name in ("forward", "_original_forward"):
            vars(self.model).pop(name, None)

    @torch.no_grad()
    def canary(self) -> Canary:
        """Score the canary with the weights in their own type."""
        token_ids = canary_tokens(self.model.config)
        inputs = torch.tensor([token_ids], device=self.model.device)
        # As the class has it: what TRL and Accelerate put over it lies in the instance.
        logits = type(self.model).forward(self.model, input_ids=inputs, use_cache=False).logits[0, :-1]
        logprobs = logits.float().log_softmax(-1).gather(-1, inputs[0, 1:, None]).squeeze(-1)
        dtype = str(self.model.dtype).removeprefix("torch.")
        return Canary(token_ids=token_ids, logprobs=tuple(logprobs.tolist()), dtype=dtype)

    def save(self, folder: Path) -> None:
        """Write the weights, and the configurations as they came."""
        self.model.save_pretrained(folder)
        self.config.save_pretrained(folder)
        if self.generation is not None:
            self.generation.save_pretrained(folder)


def load_policy(folder: Path, settings: TRLTrainingSettings) -> Policy:
    """Load a model folder in Hugging Face format; raise `RunError` if there is none, or no tokenizer in it."""
    model = folders.load_model(folder, dtype=settings.dtype, dropout=False)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise RunError(f"no tokenizer that can be read in {folder}; TRL's trainers need one: {error}") from error
    if settings.gradient_checkpointing:
        folders.enable_checkpointing(model)
    original = AutoConfig.from_pretrained(folder, local_files_only=True)
    original.architectures, original.dtype = [type(model).__name__], model.dtype
    return Policy(model=model, tokenizer=tokenizer, config=original, generation=deepcopy(model.generation_config))


def write_checkpoint(folder: Path, policy: Policy, *, tokenizer: Path, state: Mapping[str, Any]) -> None:
    """Write model, tokenizer files and state, whole or not at all; see `folders.write_checkpoint`.

    The tokenizer files are those of the model folder `tokenizer`: TRL changes the loaded one.
    """
    folders.write_checkpoint(folder, save=policy.save, tokenizer=tokenizer, state={"format": FORMAT, **state})


def read_state(folder: Path) -> dict[str, Any]:
    """Return the state that `write_checkpoint` wrote; raise `RunFolderError` if it is missing, damaged or foreign."""
    state = folders.read_state(folder, device=torch.device("cpu"))
    if state.get("format") != FORMAT or "phase" not in state:
        file = folder / "state.pt"
        raise RunFolderError(f"{file} is no checkpoint of the training backend trl in format {FORMAT}")
    return state
