"""Low-rank adaptation (LoRA, arXiv 2106.09685) through peft: small matrices are trained beside frozen large ones."""

import hashlib
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, inject_adapter_in_model
from peft.tuners.lora import Linear
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from tumbler.errors import RunError, RunFolderError
from tumbler_backends.training.torch.settings import LoraSettings

__all__ = ["Adapter"]

NAME = "default"


class Adapter:
    """The adapter of one model, put into it when made; from then on only the adapter can be trained."""

    def __init__(self, model: PreTrainedModel, settings: LoraSettings, *, seed: int) -> None:
        self._model = model
        self._settings = settings
        self.base = _fingerprint(model)
        """Tells models apart to which an adapter could belong."""
        self._config = LoraConfig(
            r=settings.rank,
            lora_alpha=settings.alpha,
            lora_dropout=settings.dropout,
            target_modules=list(settings.target_modules) or "all-linear",
            fan_in_fan_out=any(isinstance(each, Conv1D) for each in model.modules()),
        )
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            # Refused below, and not only warned of.
            warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")
            torch.manual_seed(seed)
            try:
                inject_adapter_in_model(self._config, model, adapter_name=NAME)
            except ValueError as error:
                raise RunError(
                    f"lora.target_modules = {settings.target_modules} do not fit the model: {error}"
                ) from error
        self._layers = self._adapted()
        for parameter in self.parameters.values():
            # What is learnt is small beside the frozen weights, also where those are in half precision.
            parameter.data = parameter.data.to(torch.promote_types(parameter.dtype, torch.float32))
        self._switch_dropout(on=False)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Return what is trained, by the model's names."""
        return {name: each for name, each in self._model.named_parameters() if each.requires_grad}

    def merged(self, whole: Callable[[str], Tensor]) -> dict[str, Tensor]:
        """Return the matrices that the adapter changes, with its change in them, by the names of the model folder.

        Args:
            whole: returns the whole weight of one of the model's names.
        """
        merged = {}
        for name, layer in self._layers.items():
            low, high, frozen = (
                whole(f"{name}.{each}.weight") for each in (f"lora_A.{NAME}", f"lora_B.{NAME}", "base_layer")
            )
            change = (high @ low) * layer.scaling[NAME]
            merged[f"{name}.weight"] = (frozen + (change.T if layer.fan_in_fan_out else change)).to(frozen.dtype)
        return merged

    def plain_name(self, name: str) -> str:
        """Return a weight's name in the model folder."""
        return name.replace(".base_layer.", ".")

    def save(self, folder: Path, tensors: Mapping[str, Tensor]) -> None:
        """Write the adapter's whole weights as peft does, for others to load on top of the model that it began with."""
        folder.mkdir(parents=True)
        self._config.save_pretrained(str(folder))
        named = {f"base_model.model.{name.replace(f'.{NAME}', '')}": each for name, each in tensors.items()}
        save_file({name: each.contiguous().cpu() for name, each in named.items()}, folder / "adapter_model.safetensors")

    @contextmanager
    def dropout(self, generator: torch.Generator) -> Iterator[None]:
        """Drop out inputs of the adapter, as drawn from `generator`; elsewhere nothing is dropped."""
        if not self._settings.dropout:
            yield
            return
        devices = [self._model.device] if self._model.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(torch.randint(1 << 62, (), generator=generator)))
            self._switch_dropout(on=True)
            try:
                yield
            finally:
                self._switch_dropout(on=False)

    def state(self) -> dict[str, Any]:
        """Return what `check` compares."""
        return {"base": self.base, "settings": self._settings.model_dump(mode="json")}

    def check(self, state: Mapping[str, Any], folder: Path) -> None:
        """Raise `RunFolderError` unless a checkpoint's adapter was one like this, on the same model."""
        if state["base"] != self.base:
            raise RunFolderError(
                f"the adapter in {folder} belongs to another model than the one that training started with; "
                "start with the model folder that it was trained on"
            )
        if state["settings"] != self._settings.model_dump(mode="json"):
            raise RunFolderError(
                f"the adapter in {folder} has lora = {state['settings']}, and this run another; give it the same"
            )

    def _switch_dropout(self, *, on: bool) -> None:
        for layer in self._layers.values():
            layer.lora_dropout.train(on)

    def _adapted(self) -> dict[str, Linear]:
        """Return the layers that were adapted; raises `RunError` for those that cannot be."""
        weights = [id(each) for _, each in self._model.named_parameters(remove_duplicate=False)]
        adapted = {}
        for name, layer in self._model.named_modules():
            if not hasattr(layer, "lora_A"):
                continue
            if not isinstance(layer, Linear):
                raise RunError(f"lora.target_modules takes {name}, which is no linear layer; leave it out")
            if weights.count(id(layer.base_layer.weight)) > 1:
                raise RunError(
                    f"lora.target_modules takes {name}, whose weights are those of another layer as well, "
                    "so that a change of the one alone cannot be published; leave it out"
                )
            adapted[name] = layer
        return adapted


def _fingerprint(model: PreTrainedModel) -> str:
    """Return a hash of all names, shapes and some numbers of each weight."""
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        some = tensor.flatten()[:: max(1, tensor.numel() // 64)]
        digest.update(f"{name} {tuple(tensor.shape)} {some.double().tolist()}".encode())
    return digest.hexdigest()[:16]
