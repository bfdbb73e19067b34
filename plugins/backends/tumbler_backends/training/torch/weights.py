"""The weights of the policy in training: copied to score with, published, and saved; knows no optimizer."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from transformers import PreTrainedModel

from tumbler_backends.training.torch.parallel.strategy import Strategy

if TYPE_CHECKING:
    from tumbler_backends.training.torch.adapter import Adapter

__all__ = ["PolicyWeights"]


class PolicyWeights:
    """The weights of a model that a strategy has prepared; all trainers of its team call alike.

    Weights are kept as held: what lies here of those that are trained. Frozen ones are not kept.
    """

    def __init__(self, model: PreTrainedModel, strategy: Strategy, adapter: "Adapter | None") -> None:
        self._model = model
        self._strategy = strategy
        self._adapter = adapter

    @property
    def partial(self) -> bool:
        """Return whether `published` leaves out weights, since they never change."""
        return self._adapter is not None

    def held(self) -> dict[str, Tensor]:
        """Return a copy of the weights as held; tied ones appear under each of their names, as one tensor."""
        copies: dict[int, Tensor] = {}
        weights: dict[str, Tensor] = {}
        for name, tensor in self._kept().items():
            if id(tensor) not in copies:
                copies[id(tensor)] = self._strategy.held(tensor.detach()).clone()
            weights[name] = copies[id(tensor)]
        return weights

    def full(self, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the whole of weights as held."""
        return self._each(held, self._strategy.full)

    def share(self, full: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what would be held of whole weights."""
        return self._each(full, lambda each, like: self._strategy.held(self._strategy.part(each, like)))

    def published(self, held: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the whole weights by the names of the model folder, without those that no step changes."""
        if self._adapter is None:
            return self.full(held)
        return self._adapter.merged(self._whole(held))

    def put(self, full: Mapping[str, Tensor]) -> None:
        """Train on from whole weights, as `full` returned them."""
        kept = self._kept()
        with torch.no_grad():
            for name, tensor in self.share(full).items():
                self._strategy.held(kept[name]).copy_(tensor)

    def saver(self) -> Callable[[Path], object]:
        """Gather all weights and return what writes them into a folder in Hugging Face format.

        With an adapter, that is written beside the folder, in peft's format.
        """
        if self._adapter is None and not self._strategy.in_step:
            return self._model.save_pretrained
        weights, model, adapter = self._everything(), self._model, self._adapter
        trained = self.full(self.held()) if adapter else {}

        def save(folder: Path) -> None:
            _plain(model, weights).save_pretrained(folder)
            if adapter:
                adapter.save(folder.with_name("adapter"), trained)

        return save

    def _everything(self) -> dict[str, Tensor]:
        """Return the whole of all weights by the names of the model folder."""
        strategy = self._strategy
        whole = self._each(_named(self._model), lambda each, like: strategy.full(strategy.held(each.detach()), like))
        if self._adapter is None:
            return whole
        plain = {self._adapter.plain_name(name): tensor for name, tensor in whole.items() if ".lora_" not in name}
        return {**plain, **self._adapter.merged(whole.__getitem__)}

    def _whole(self, held: Mapping[str, Tensor]) -> Callable[[str], Tensor]:
        """Return a function from a name to the whole weight, as held or, if it is frozen, as it is."""
        named = _named(self._model)

        def whole(name: str) -> Tensor:
            here = held[name] if name in held else self._strategy.held(named[name].detach())
            return self._strategy.full(here, named[name])

        return whole

    def _kept(self) -> Mapping[str, Tensor]:
        return _named(self._model) if self._adapter is None else self._adapter.parameters

    def _each(self, weights: Mapping[str, Tensor], change: Callable[[Tensor, Tensor], Tensor]) -> dict[str, Tensor]:
        """Return each weight changed, given the parameter that it is of; tied ones once."""
        like = _named(self._model)
        changed: dict[int, Tensor] = {}
        for name, tensor in weights.items():
            if id(tensor) not in changed:
                changed[id(tensor)] = change(tensor, like[name])
        return {name: changed[id(tensor)] for name, tensor in weights.items()}


def _named(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return parameters and kept buffers under all their names; tied parameters are one object."""
    parameters: dict[str, Tensor] = dict(model.named_parameters(remove_duplicate=False))
    return {**model.state_dict(), **parameters}


def _plain(model: PreTrainedModel, weights: Mapping[str, Tensor]) -> PreTrainedModel:
    """Return a model of the same configuration with these weights."""
    with torch.device("meta"):
        plain = type(model)(model.config)
    plain.load_state_dict(dict(weights), assign=True)
    plain.tie_weights()
    plain.generation_config = model.generation_config
    return plain
