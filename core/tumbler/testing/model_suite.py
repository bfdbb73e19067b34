"""The contract of model sources as tests: what a prepared folder must hold."""

import json
from pathlib import Path

import pytest

from tumbler.contracts.model import ModelSource
from tumbler.testing.suite import ContractSuite

__all__ = ["ModelSuite"]

_TEXTS = ('@say {"word": "walk"}\n', "Say the word.\nsaid\n", "é ü 漢 12 34\n")


class ModelSuite(ContractSuite):
    """Subclass it with the fixture `model_source`. What the folder holds is read with transformers."""

    @pytest.fixture
    def model_source(self) -> ModelSource:
        """Override: return the source."""
        raise NotImplementedError("define the fixture model_source: the model source to test")

    def test_the_folder_is_complete(self, model_source: ModelSource, tmp_path: Path) -> None:
        """Configuration, weights and tokenizer in Hugging Face format."""
        folder = _prepare(model_source, tmp_path / "model")
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        assert config.get("model_type"), "config.json must say the model_type"
        assert any(folder.glob("*.safetensors")), f"{folder} holds no weights in safetensors"
        assert (folder / "tokenizer.json").exists() or (folder / "tokenizer_config.json").exists(), "no tokenizer"

    def test_the_model_speaks(self, model_source: ModelSource, tmp_path: Path) -> None:
        """It loads without a network, and has a row of its vocabulary for each token."""
        transformers = pytest.importorskip("transformers")
        folder = _prepare(model_source, tmp_path / "model")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
        assert len(tokenizer) <= model.get_input_embeddings().num_embeddings, (
            "the tokenizer has more tokens than the model"
        )
        assert tokenizer.eos_token_id is not None, "the tokenizer names no token that ends a turn"

    def test_the_chat_template_takes_a_conversation(self, model_source: ModelSource, tmp_path: Path) -> None:
        """Of a user and an assistant, with an invitation to reply."""
        transformers = pytest.importorskip("transformers")
        folder = _prepare(model_source, tmp_path / "model")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        talk = [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "walk"}]
        text = tokenizer.apply_chat_template(talk, tokenize=False, add_generation_prompt=False)
        assert "Say it." in text and "walk" in text, f"the template drops messages: {text!r}"
        prompt = tokenizer.apply_chat_template(talk[:1], tokenize=False, add_generation_prompt=True)
        assert "Say it." in prompt, f"the template drops messages: {prompt!r}"

    def test_texts_survive_the_tokenizer(self, model_source: ModelSource, tmp_path: Path) -> None:
        """Observations may hold anything."""
        transformers = pytest.importorskip("transformers")
        folder = _prepare(model_source, tmp_path / "model")
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        for text in _TEXTS:
            ids = tokenizer.encode(text, add_special_tokens=False)
            assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text, f"{text!r} comes back changed"

    def test_equal_seeds_give_equal_models(self, model_source: ModelSource, tmp_path: Path) -> None:
        """A run can be repeated."""
        once, again = [_weights(_prepare(model_source, tmp_path / name)) for name in ("once", "again")]
        assert once == again, "equal texts and seeds gave other weights"


def _prepare(source: ModelSource, folder: Path) -> Path:
    folder.mkdir()
    prepared = source.prepare(folder, texts=list(_TEXTS), seed=3)
    assert prepared.is_dir(), f"prepare returned {prepared}, which is no folder"
    return prepared


def _weights(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.glob("*.safetensors"))}
