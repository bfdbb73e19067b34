"""Small models of several families, and a backend that serves one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPTJConfig,
    LlamaConfig,
    MistralConfig,
    PreTrainedModel,
    Qwen2Config,
)

from tumbler.contracts.inference import GenerateRequest, Generation, Sampling
from tumbler_backends.inference.transformers.backend import TransformersInference
from tumbler_backends.inference.transformers.settings import TransformersSettings
from tumbler_backends.models.word_tokenizer import make_word_tokenizer

CONTEXT = 256
_SHAPE = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": CONTEXT,
}
_GPT_SHAPE = {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": CONTEXT}
_CONFIGS = {
    "llama": lambda **ids: LlamaConfig(**_SHAPE, num_key_value_heads=2, tie_word_embeddings=True, **ids),
    "qwen2": lambda **ids: Qwen2Config(**_SHAPE, num_key_value_heads=4, tie_word_embeddings=False, **ids),
    "gpt2": lambda **ids: GPT2Config(**_GPT_SHAPE, **ids),
    "mistral": lambda **ids: MistralConfig(**_SHAPE, num_key_value_heads=2, sliding_window=16, **ids),
    "gptj": lambda **ids: GPTJConfig(**_GPT_SHAPE, rotary_dim=8, **ids),
    "gemma3": lambda **ids: Gemma3TextConfig(
        **(_SHAPE | {"num_hidden_layers": 6}), num_key_value_heads=2, head_dim=8, sliding_window=16, **ids
    ),
}


def _write_model(folder: Path, family: str = "llama", *, seed: int = 0) -> Path:
    tokenizer = make_word_tokenizer(["a few words of some text"], vocabulary=384, sample=1, context=CONTEXT)
    torch.manual_seed(seed)
    ids = {"vocab_size": len(tokenizer), "bos_token_id": None, "eos_token_id": tokenizer.eos_token_id}
    model = AutoModelForCausalLM.from_config(_CONFIGS[family](**ids, pad_token_id=tokenizer.pad_token_id))
    for parameter in model.parameters():
        if parameter.dim() > 1:
            parameter.data.mul_(4)  # at their usual size all next tokens are about equally likely
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def write_model() -> Callable[..., Path]:
    """Writes a small model of a family into a folder."""
    return _write_model


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return _write_model(tmp_path / "model")


@pytest.fixture
async def serve(folder: Path) -> AsyncIterator[Callable[..., object]]:
    """Starts a backend on a folder with some settings, and closes it at the end."""
    started: list[TransformersInference] = []

    async def start(model: Path = folder, **settings: object) -> TransformersInference:
        backend = TransformersInference(TransformersSettings(threads=1, **settings))
        started.append(backend)
        await backend.start(model)
        return backend

    yield start
    for backend in started:
        await backend.close()


@pytest.fixture
def ask() -> Callable[..., GenerateRequest]:
    """Makes requests."""

    def request(token_ids, *, seed: int = 0, session: str = "", **sampling: object) -> GenerateRequest:
        rules = Sampling(**{"max_tokens": 6, **sampling})
        return GenerateRequest(token_ids=tuple(token_ids), sampling=rules, seed=seed, session=session)

    return request


async def _begun(
    backend: TransformersInference, request: GenerateRequest, tokens: int = 1
) -> "asyncio.Task[Generation]":
    before = backend.metrics()["tokens_sampled"]
    task = asyncio.create_task(backend.generate(request))
    while backend.metrics()["tokens_sampled"] < before + tokens:
        await asyncio.sleep(0)
    return task


@pytest.fixture
def begun() -> Callable[..., object]:
    """Starts a request and returns its task once so many tokens are there."""
    return _begun


@pytest.fixture
def assert_faithful() -> Callable[..., None]:
    """Compares a reply's log-probabilities with those of one plain forward pass."""

    def check(folder: Path, prompt: list[int], reply: Generation, *, temperature: float = 1.0) -> None:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(folder).eval()
        with torch.inference_mode():
            logits = model(torch.tensor([[*prompt, *reply.token_ids]])).logits[0]
        logprobs = (logits / temperature).log_softmax(-1)[len(prompt) - 1 : -1]
        expected = logprobs.gather(1, torch.tensor(reply.token_ids)[:, None]).squeeze(1)
        torch.testing.assert_close(torch.tensor(reply.logprobs), expected, atol=1e-4, rtol=0)

    return check
