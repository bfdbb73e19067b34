"""The server itself: what it needs, whom it answers, and the checks of weights, on modules that stand for vLLM's."""

import json
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tumbler.contracts.inference import WeightUpdate
from tumbler_backends.inference.vllm import server
from tumbler_backends.inference.vllm.calling import Address, ServerRefusedError
from tumbler_backends.inference.vllm.server.checks import check_weights
from tumbler_backends.inference.vllm.server.weights import ALIASES, complete_tied_head, read_weights
from tumbler_backends.inference.vllm.transfer import Transfer


def test_the_server_starts_without_tumbler_and_without_any_package():
    program = Path(server.__file__).with_name("__main__.py")
    command = [sys.executable, "-I", "-S", str(program), "--help"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, env={})
    assert "--model" in finished.stderr


def test_a_standing_server_wants_a_secret(models):
    program = Path(server.__file__).with_name("__main__.py")
    command = [sys.executable, "-I", "-S", str(program), "--model", str(models[0])]
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    assert finished.returncode == 2 and "TUMBLER_VLLM_SECRET" in finished.stderr


@pytest.mark.parametrize(
    ("path", "body", "secret", "complaint"),
    [
        ("/status", {}, "wrong", "401"),
        ("/nothing", {}, "a-secret", "404.*/generate"),
        ("/generate", {"prompt": "hello"}, "a-secret", "400.*prompt"),
        ("/weights", {"path": "/nowhere", "version": 1, "drain": False, "canary": []}, "a-secret", "400.*/nowhere"),
    ],
)
async def test_what_cannot_be_answered_is_refused_with_the_reason(path, body, secret, complaint, stand):
    address = (await stand()).address
    with pytest.raises(ServerRefusedError, match=complaint):
        await Address(host=address.host, port=address.port, secret=secret).call(path, body)


class LinearBase(nn.Module):
    """Computes with a copy of its weight, as vLLM's linear layers do on processors; the parameter is empty."""

    def __init__(self, weight):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(0))
        self.packed = weight.clone()
        self.quant_method = self

    def apply(self, layer, x):
        return x @ layer.packed.T


class ParallelLMHead(LinearBase):
    def __init__(self, weight, embeddings):
        super().__init__(weight)
        self.weight = embeddings.weight


class Model(nn.Module):
    packed_modules_mapping: ClassVar = {"qkv_proj": ["q_proj", "k_proj", "v_proj"]}

    def __init__(self, weights):
        super().__init__()
        self.embed_tokens = nn.Embedding(64, 8)
        self.embed_tokens.weight.data[:60] = weights["embed_tokens.weight"]
        self.qkv_proj = LinearBase(torch.cat([weights[f"{name}_proj.weight"] for name in "qkv"]))
        self.norm = nn.LayerNorm(8, bias=False)
        self.norm.weight.data = weights["norm.weight"].clone()
        self.lm_head = ParallelLMHead(weights["embed_tokens.weight"], self.embed_tokens)


@pytest.fixture
def weights():
    generator = torch.Generator().manual_seed(0)
    shapes = {"embed_tokens": (60, 8), "q_proj": (8, 8), "k_proj": (4, 8), "v_proj": (4, 8), "norm": (8,)}
    return {f"{name}.weight": torch.randn(shape, generator=generator) for name, shape in shapes.items()}


def test_weights_that_the_engine_computes_with_are_verified(weights):
    shuffled = dict(sorted(complete_tied_head(weights, tied=True).items()))
    loaded = check_weights(Model(weights), {**shuffled, "rotary.inv_freq": torch.zeros(2)})
    assert (loaded.problems, loaded.verified, loaded.unverified) == ([], 6, ["rotary.inv_freq"])


@pytest.mark.parametrize("name", ["embed_tokens.weight", "q_proj.weight", "v_proj.weight", "norm.weight"])
def test_a_tensor_that_did_not_arrive_is_named(name, weights):
    model = Model(weights)
    sent = weights | {name: weights[name] + 1e-3}
    assert [name in problem for problem in check_weights(model, sent).problems] == [True]


def test_matrices_in_another_order_are_noticed(weights):
    model = Model(weights | {"k_proj.weight": weights["v_proj.weight"], "v_proj.weight": weights["k_proj.weight"]})
    assert len(check_weights(model, weights).problems) == 1


def test_a_tied_head_that_still_computes_with_old_weights_is_noticed_though_its_parameter_is_new(weights):
    model = Model(weights)
    new = weights | {"embed_tokens.weight": weights["embed_tokens.weight"] * 1.5}
    model.embed_tokens.weight.data[:60] = new["embed_tokens.weight"]
    assert check_weights(model, new).problems == []
    problems = check_weights(model, complete_tied_head(new, tied=True)).problems
    assert problems == ["lm_head.weight: the engine computes with other values than it was given"]


def test_only_a_tied_head_is_completed(weights):
    assert "lm_head.weight" not in complete_tied_head(weights, tied=False)
    with pytest.raises(ValueError, match="send lm_head"):
        complete_tied_head({"table": torch.zeros(2)}, tied=True)


def test_tied_tensors_travel_once_and_arrive_under_both_names(models, tmp_path):
    transfer = Transfer(models[0], tmp_path)
    tensors = read_weights(models[0])
    tied = {**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"]}
    written = transfer.write(WeightUpdate(version=1, tensors=tied.items))
    arrived = read_weights(written.path)
    assert sorted(arrived) == sorted(tied)
    assert all(torch.equal(arrived[name], tensor) for name, tensor in tied.items())
    assert written.path.stat().st_size < sum(tensor.nbytes for tensor in tied.values())
    transfer.close()


def test_weights_are_read_from_every_file_of_a_folder(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "model-1.safetensors")
    save_file({"b": torch.ones(3)}, tmp_path / "model-2.safetensors", metadata={ALIASES: json.dumps({"c": "b"})})
    assert {name: len(tensor) for name, tensor in read_weights(tmp_path).items()} == {"a": 2, "b": 3, "c": 3}
    with pytest.raises(ValueError, match="holds no safetensors"):
        read_weights(tmp_path / "..")
