"""Tiny models with tokenizers, and started backends of both kinds to compare."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config
from transformers.utils import logging

from tumbler_backends.training.torch.backend import TorchTraining
from tumbler_backends.training.torch.settings import OptimizerSettings as TorchOptimizerSettings
from tumbler_backends.training.torch.settings import TorchTrainingSettings
from tumbler_backends.training.trl.backend import TRLTraining
from tumbler_backends.training.trl.settings import OptimizerSettings, TRLTrainingSettings

VOCABULARY = 23
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
CONFIGS = {
    "llama": lambda: LlamaConfig(**SIZES, tie_word_embeddings=True),
    "qwen2": lambda: Qwen2Config(**SIZES, tie_word_embeddings=False),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2
    ),
}
QUICK = {"learning_rate": 1e-2, "max_grad_norm": 0.5, "weight_decay": 0.1}


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory) -> Callable[[str], Path]:
    """Return a function from an architecture to a folder with a random model and a tokenizer of its size."""
    root = tmp_path_factory.mktemp("trl-models")

    def make(architecture: str) -> Path:
        folder = root / architecture
        if not folder.exists():
            logging.disable_progress_bar()
            with torch.random.fork_rng():
                torch.manual_seed(7)
                model = AutoModelForCausalLM.from_config(CONFIGS[architecture]())
                with torch.no_grad():
                    for parameter in model.parameters():
                        # Larger than at a usual start, so that no two tokens are nearly alike.
                        parameter.add_(0.3 * torch.randn_like(parameter))
            model.save_pretrained(folder)
            words = {"<unk>": 0, "<bos>": 1, "<eos>": 2, **{f"w{index}": index for index in range(3, VOCABULARY)}}
            tokenizer = PreTrainedTokenizerFast(
                tokenizer_object=Tokenizer(WordLevel(words, unk_token="<unk>")), unk_token="<unk>", eos_token="<eos>"
            )
            tokenizer.save_pretrained(folder)
            logging.enable_progress_bar()
        return folder

    return make


@pytest.fixture
async def start_trl(folder_of) -> AsyncIterator[Callable]:
    """Return a function that starts the backend under test and begins a phase; all are closed at the end."""
    backends = []

    async def make(phase, *, architecture="llama", seed=0, steps=10, **settings) -> TRLTraining:
        quick = OptimizerSettings(**QUICK)
        backend = TRLTraining(TRLTrainingSettings(**{"sft": quick, "rl": quick, **settings}))
        backends.append(backend)
        await backend.start(folder_of(architecture), seed=seed)
        if phase is not None:
            backend.begin(phase, optimizer_steps=steps)
        return backend

    yield make
    for backend in backends:
        await backend.close()


@pytest.fixture
async def start_torch(folder_of) -> AsyncIterator[Callable]:
    """Return a function that starts the `torch` backend as `start_trl` starts the one under test."""
    backends = []

    async def make(phase, *, architecture="llama", seed=0, steps=10, **settings) -> TorchTraining:
        quick = TorchOptimizerSettings(**QUICK)
        backend = TorchTraining(TorchTrainingSettings(**{"sft": quick, "rl": quick, **settings}))
        backends.append(backend)
        await backend.start(folder_of(architecture), seed=seed)
        if phase is not None:
            backend.begin(phase, optimizer_steps=steps)
        return backend

    yield make
    for backend in backends:
        await backend.close()


def tensors(backend) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in backend.weights().tensors()}


@pytest.fixture
def tensors_of() -> Callable:
    """Return a function that copies a backend's weights."""
    return tensors
