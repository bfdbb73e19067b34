"""Tiny models, trajectories built by hand, small algorithms, and started backends."""

from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    PreTrainedConfig,
    Qwen2Config,
)
from transformers.utils import logging

from tumbler.contracts.algorithm import UpdateRule
from tumbler.contracts.batch import LossOutput, TokenBatch
from tumbler.trajectory import Chunk, Component, Header, Segment, Trajectory, verify_trajectory
from tumbler_backends.training.torch.backend import TorchTraining
from tumbler_backends.training.torch.settings import OptimizerSettings, TorchTrainingSettings

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
CONFIGS: dict[str, Callable[[], PreTrainedConfig]] = {
    "llama": lambda: LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama-untied": lambda: LlamaConfig(**SIZES, tie_word_embeddings=False),
    "qwen2": lambda: Qwen2Config(**SIZES),
    "gpt2": lambda: GPT2Config(
        vocab_size=VOCABULARY, n_embd=16, n_layer=2, n_head=2, n_positions=64, bos_token_id=1, eos_token_id=2
    ),
    "gemma2": lambda: Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=2.0),
}


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return a function from an architecture to a folder with a random model of it."""
    root = tmp_path_factory.mktemp("models")

    def make(architecture: str) -> Path:
        folder = root / architecture
        if not folder.exists():
            torch.manual_seed(7)
            logging.disable_progress_bar()
            model = AutoModelForCausalLM.from_config(CONFIGS[architecture]())
            with torch.no_grad():
                for parameter in model.parameters():
                    # Larger than at a usual start, so that no two tokens are nearly alike.
                    parameter.add_(0.3 * torch.randn_like(parameter))
            model.save_pretrained(folder)
            (folder / "tokenizer.json").write_text('{"a": 1}')
            (folder / "chat_template.jinja").write_text("{{ messages }}")
            logging.enable_progress_bar()
        return folder

    return make


@pytest.fixture
def trajectory() -> Callable[..., Trajectory]:
    """Return a builder of trajectories: `segments` are lengths, `chunks` are dicts of `Chunk` fields."""

    def build(identity: str, *, segments: tuple[int, ...], chunks: list[dict], seed: int = 0, **fields) -> Trajectory:
        generator = torch.Generator().manual_seed(seed)
        header_fields = {name: fields.pop(name) for name in ("temperature", "source") if name in fields}
        component = Component(id="test", version="0", settings_hash="")
        built = []
        for each in chunks:
            trained = each.get("sampled", True) and not each.get("replayed", False)
            count = each["end"] - each["start"]
            logprobs = tuple((-0.1 - torch.rand(count, generator=generator)).tolist())
            sampled = {"behaviour_logprobs": logprobs, "policy_version": 0} if each.get("sampled", True) else {}
            built.append(Chunk(**{"trainable": trained, **sampled, **each}))
        record = Trajectory(
            header=Header(id=identity, task="t", env=component, agent=component, **header_fields),
            segments=tuple(
                Segment(
                    id=index,
                    token_ids=tuple(torch.randint(3, VOCABULARY, (n,), generator=generator).tolist()),
                    cause="rewrite" if index else "start",
                )
                for index, n in enumerate(segments)
            ),
            chunks=tuple(built),
            **{"reward": 1.0, "success": True, **fields},
        )
        verify_trajectory(record)
        return record

    return build


@pytest.fixture
def mixed_batch(trajectory) -> list[Trajectory]:
    """Return trajectories of all kinds: several segments, errored, detours, replayed, not trainable."""
    return [
        trajectory(
            "two-segments",
            segments=(19, 12),
            chunks=[
                {"segment": 0, "start": 5, "end": 8},
                {"segment": 0, "start": 11, "end": 15, "errored": True},
                {"segment": 1, "start": 6, "end": 9},
            ],
            seed=1,
        ),
        trajectory(
            "replayed",
            segments=(26,),
            chunks=[
                {"segment": 0, "start": 4, "end": 7, "replayed": True, "sampled": False},
                {"segment": 0, "start": 9, "end": 11, "replayed": True, "sampled": False, "errored": True},
                {"segment": 0, "start": 13, "end": 17, "replayed": True, "sampled": False, "relevant": False},
                {"segment": 0, "start": 18, "end": 23},
            ],
            seed=2,
            temperature=0.7,
            reward=-0.5,
            success=False,
        ),
        trajectory(
            "partly-trainable",
            segments=(9, 31, 7),
            chunks=[
                {"segment": 0, "start": 3, "end": 4},
                {"segment": 1, "start": 9, "end": 14, "trainable": False},
                {"segment": 1, "start": 20, "end": 24, "relevant": False},
            ],
            seed=3,
        ),
        trajectory("short", segments=(6,), chunks=[{"segment": 0, "start": 2, "end": 6}], seed=4, reward=0.25),
    ]


class CreditTimesLogprob:
    """Minus credit times log-probability for each trained token; the denominator counts tokens."""

    def __init__(self, **rule) -> None:
        self.update_rule = UpdateRule(**rule)
        self.seen: list[TokenBatch] = []

    def loss(self, batch: TokenBatch) -> LossOutput:
        self.seen.append(batch)
        trained = batch.chunk_of_token >= 0
        credit = batch.chunk_credit[batch.chunk_of_token[trained]]
        count = float(trained.sum())
        return LossOutput(
            total=-(credit * batch.policy_logprobs[trained]).sum(),
            denominator=count,
            metrics={"test/credit": (float(credit.sum()), count)},
            samples={"test/credits": credit.tolist()},
        )


@pytest.fixture
def algorithm() -> type[CreditTimesLogprob]:
    return CreditTimesLogprob


QUICK = OptimizerSettings(learning_rate=1e-2, max_grad_norm=0.5, weight_decay=0.1)


@pytest.fixture
async def start(model_folder) -> AsyncIterator[Callable]:
    """Return a function that starts a backend in float64 and begins a phase; all are closed at the end."""
    backends: list[TorchTraining] = []

    async def make(phase: str | None, *, architecture="llama", seed=0, steps=10, **settings) -> TorchTraining:
        settings = {"dtype": "float64", "sft": QUICK, "rl": QUICK, **settings}
        backend = TorchTraining(TorchTrainingSettings(**settings))
        backends.append(backend)
        await backend.start(model_folder(architecture), seed=seed)
        if phase is not None:
            backend.begin(phase, optimizer_steps=steps)
        return backend

    yield make
    for backend in backends:
        await backend.close()


class Reference:
    """A plain, slow trainer: each token scored alone, from its own unpadded prefix."""

    def __init__(self, folder: Path, settings: OptimizerSettings = QUICK) -> None:
        logging.disable_progress_bar()
        self.model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64).eval()
        self._settings = settings
        matrices = [each for each in self.model.parameters() if each.ndim > 1]
        vectors = [each for each in self.model.parameters() if each.ndim <= 1]
        self._optimizer = torch.optim.AdamW(
            [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
            lr=settings.learning_rate,
            betas=settings.betas,
        )

    def logprobs(self, record: Trajectory, chunk: Chunk, temperature: float = 1.0) -> list[torch.Tensor]:
        """Return one log-probability for each token of the chunk."""
        tokens = record.segments[chunk.segment].token_ids[chunk.start : chunk.end]
        every = self.distributions(record, chunk, temperature)
        return [logprobs[token] for token, logprobs in zip(tokens, every, strict=True)]

    def entropies(self, record: Trajectory, chunk: Chunk, temperature: float = 1.0) -> list[torch.Tensor]:
        """Return the entropy of what each token of the chunk was drawn from."""
        return [-(each.exp() * each).sum() for each in self.distributions(record, chunk, temperature)]

    def distributions(self, record: Trajectory, chunk: Chunk, temperature: float) -> list[torch.Tensor]:
        """Return the log-probabilities of the whole vocabulary before each token of the chunk."""
        tokens = record.segments[chunk.segment].token_ids
        prefixes = [torch.tensor([tokens[:position]]) for position in range(chunk.start, chunk.end)]
        return [torch.log_softmax(self.model(input_ids=each).logits[0, -1] / temperature, -1) for each in prefixes]

    def sft_loss(self, batch: list[Trajectory]) -> torch.Tensor:
        """Return Eq. 1-2 of arXiv 2512.24873."""
        values = []
        for record in batch:
            for chunk in record.chunks:
                if not chunk.errored and chunk.relevant:
                    values += self.logprobs(record, chunk)
        return -torch.stack(values).mean()

    def credit_loss(self, batch: list[Trajectory], credits_: list[tuple[float, ...]]) -> torch.Tensor:
        """Return the loss of `CreditTimesLogprob`."""
        values = []
        for record, own in zip(batch, credits_, strict=True):
            for chunk, credit in zip(record.chunks, own, strict=True):
                if chunk.trainable:
                    values += [credit * each for each in self.logprobs(record, chunk, record.header.temperature)]
        return -torch.stack(values).mean()

    def step(self, loss: torch.Tensor) -> float:
        """Take one optimizer step and return the gradient's norm before clipping."""
        self._optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self._settings.max_grad_norm)
        self._optimizer.step()
        return float(norm)


@pytest.fixture
def reference() -> type[Reference]:
    return Reference


@pytest.fixture
def weights_of() -> Callable[[TorchTraining], dict[str, torch.Tensor]]:
    """Return a function that copies a backend's weights."""

    def copy(backend: TorchTraining) -> dict[str, torch.Tensor]:
        tensors = backend.weights().tensors
        assert tensors is not None
        return {name: tensor.clone() for name, tensor in tensors()}

    return copy


@pytest.fixture(autouse=True)
def _progress_bars() -> Iterator[None]:
    yield
    logging.enable_progress_bar()
