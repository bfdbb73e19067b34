"""The model sources: what they write, find and refuse."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tumbler.config import Settings
from tumbler.contracts.model import ModelSource
from tumbler.errors import RunError
from tumbler_backends.models.folder import FolderModel
from tumbler_backends.models.plugin import tumbler_models
from tumbler_backends.models.settings import FolderSettings, GgufSettings, TinySettings
from tumbler_backends.models.tiny import TinyModel

TEXTS = ["Start at cedar.txt and follow blue.", "blue: otter.txt\nvalue: 37"]


@pytest.fixture
def tiny(tmp_path):
    return TinyModel(TinySettings(layers=1, width=16, heads=2, context=64)).prepare(
        tmp_path / "tiny", texts=TEXTS, seed=0
    )


@pytest.mark.parametrize("spec", tumbler_models(), ids=lambda spec: spec.name)
def test_every_source_loads_and_has_settings_of_its_own(spec):
    assert issubclass(spec.load(), ModelSource)
    assert issubclass(spec.config(), Settings)


@pytest.mark.parametrize("plugin", ["models", "inference.transformers"])
def test_the_plugin_imports_nothing_heavy(plugin):
    heavy = "{'torch', 'transformers', 'tokenizers', 'pydantic', 'gguf'}"
    code = f"import sys, tumbler_backends.{plugin}.plugin; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "set()\n"


def test_a_tiny_model_is_a_folder_that_transformers_loads(tmp_path):
    settings = TinySettings(layers=2, width=32, heads=4, context=128)
    folder = TinyModel(settings).prepare(tmp_path / "model", texts=TEXTS, seed=0)
    assert folder == tmp_path / "model"
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.config.max_position_embeddings == 128
    assert model.get_input_embeddings().weight is model.get_output_embeddings().weight
    ids = tokenizer(TEXTS[0], return_tensors="pt").input_ids
    assert model(ids).logits.shape == (1, ids.shape[1], len(tokenizer))


def test_the_standard_tiny_model_has_about_650_thousand_parameters(tmp_path):
    folder = TinyModel(TinySettings()).prepare(tmp_path / "model", texts=TEXTS, seed=0)
    assert 550_000 < AutoModelForCausalLM.from_pretrained(folder).num_parameters() < 750_000


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_equal_seeds_and_texts_give_equal_files(tmp_path):
    source = TinyModel(TinySettings(layers=1, width=16, heads=2))
    state = torch.random.get_rng_state()
    one, same, other = (
        source.prepare(tmp_path / name, texts=iter(TEXTS), seed=seed)
        for name, seed in (("one", 0), ("same", 0), ("other", 1))
    )
    assert contents(one) == contents(same) != contents(other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_no_more_texts_are_read_than_needed(tmp_path):
    def texts():
        yield TEXTS[0]
        raise AssertionError("the second text is not wanted")

    TinyModel(TinySettings(layers=1, width=16, heads=2, sample=1)).prepare(tmp_path / "m", texts=texts(), seed=0)


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="even multiple of heads 3"):
        TinySettings(width=128, heads=3)


def test_a_complete_folder_is_used_where_it_is(tiny, tmp_path):
    source = FolderModel(FolderSettings(path=str(tiny)))
    assert source.prepare(tmp_path / "unused", texts=(), seed=0) == tiny
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize(
    ("file", "complaint"),
    [
        ("config.json", "config.json"),
        ("model.safetensors", "weights"),
        ("tokenizer.json", "a tokenizer"),
        ("chat_template.jinja", "a chat template"),
    ],
)
def test_what_a_folder_lacks_is_named(file, complaint, tiny, tmp_path):
    (tiny / file).unlink()
    with pytest.raises(RunError, match=f"lacks\n  - {complaint}"):
        FolderModel(FolderSettings(path=str(tiny))).prepare(tmp_path, texts=(), seed=0)


def test_all_that_an_empty_folder_lacks_is_named_at_once(tmp_path):
    with pytest.raises(RunError) as caught:
        FolderModel(FolderSettings(path=str(tmp_path))).prepare(tmp_path, texts=(), seed=0)
    assert str(caught.value).count("\n  - ") == 4


def test_a_chat_template_in_the_tokenizers_config_counts(tiny, tmp_path):
    (tiny / "chat_template.jinja").unlink()
    path = tiny / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chat_template": "{{ messages }}"}))
    assert FolderModel(FolderSettings(path=str(tiny))).prepare(tmp_path, texts=(), seed=0) == tiny


def test_neither_a_folder_nor_a_name_on_the_hub_is_an_error_with_its_remedy(tmp_path):
    missing = Path(tmp_path / "nowhere" / "at" / "all")
    with pytest.raises(RunError, match="give the path of a folder"):
        FolderModel(FolderSettings(path=str(missing))).prepare(tmp_path, texts=(), seed=0)


@pytest.mark.parametrize("settings", [{}, {"path": "a.gguf", "package": "b"}])
def test_a_gguf_source_names_one_place(settings):
    with pytest.raises(ValueError, match="either path or package"):
        GgufSettings(**settings)
