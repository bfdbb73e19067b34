"""Whether an engine computes with the weights that it was given; knows no engine but its modules.

Parameters that the engine holds as they came are compared. Those that it keeps in a layout of its own (vLLM packs
matrices for processors and leaves an empty parameter behind) are multiplied with a probe, as the model would.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tumbler_backends.inference.vllm.server.engine import Loaded

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["check_weights"]

_TOLERANCE = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 5e-2}
"""Of a product with the probe, relative to its largest entry."""
_ROWS = 2
"""Of the probe."""


def check_weights(model: "nn.Module", given: Mapping[str, "Tensor"]) -> Loaded:
    """Compare the model's weights with those given by their Hugging Face names."""
    import torch

    problems: list[str] = []
    unverified: list[str] = []
    verified = 0
    sums: dict[str, float] = {}
    for target, names in _targets(model, given).items():
        whole = _joined([given[name] for name in names])
        sums |= {name: float(given[name].sum(dtype=torch.float64)) for name in names}
        verdict = _compare(model, target, whole)
        if verdict is None:
            unverified += names
        elif verdict:
            problems.append(f"{', '.join(names)}: {verdict}")
        else:
            verified += len(names)
    return Loaded(problems=problems, verified=verified, unverified=unverified, sums=sums)


def _targets(model: "nn.Module", given: Mapping[str, "Tensor"]) -> dict[str, list[str]]:
    """Return the names given by the engine's name, parts of a packed matrix in their order."""
    packed: Mapping[str, Sequence[str]] = getattr(model, "packed_modules_mapping", {})
    wholes = {part: whole for whole, parts in packed.items() for part in parts if len(parts) > 1}
    order = {part: index for parts in packed.values() for index, part in enumerate(parts)}
    prefixes: Mapping[str, str | None] = getattr(getattr(model, "hf_to_vllm_mapper", None), "orig_to_new_prefix", {})
    targets: dict[str, list[str]] = {}
    for name in given:
        path, _, leaf = _renamed(name, prefixes).rpartition(".")
        parent, _, module = path.rpartition(".")
        target = ".".join(part for part in (parent, wholes.get(module, module), leaf) if part)
        targets.setdefault(target, []).append(name)
    for names in targets.values():
        names.sort(key=lambda name: order.get(name.split(".")[-2] if "." in name else name, 0))
    return targets


def _renamed(name: str, prefixes: Mapping[str, str | None]) -> str:
    for old, new in prefixes.items():
        if name.startswith(old) and new is not None:
            return new + name.removeprefix(old)
    return name


def _joined(parts: "Sequence[Tensor]") -> "Tensor":
    import torch

    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def _compare(model: "nn.Module", target: str, whole: "Tensor") -> str | None:
    """Return what is wrong, nothing if all is well, or None if the place is not known."""
    path, _, leaf = target.rpartition(".")
    try:
        module: Any = model.get_submodule(path)
    except AttributeError:
        return None
    held = _held(module, leaf, whole)
    product = _product(module, leaf, whole)
    if held is None and product is None:
        return None
    if held is False:
        return "the engine holds other values"
    if product is False:
        return "the engine computes with other values than it was given"
    return ""


def _held(module: Any, leaf: str, whole: "Tensor") -> bool | None:  # noqa: ANN401  # a module of vLLM
    """Return whether the module's parameter is the tensor; None if it has none of that shape."""
    import torch

    held = getattr(module, leaf, None)
    if not isinstance(held, torch.Tensor) or held.dim() != whole.dim() or held.shape[1:] != whole.shape[1:]:
        return None
    if held.shape[0] < whole.shape[0]:
        return None  # a padded vocabulary has more rows, never fewer
    rows = held[: whole.shape[0]].detach().cpu()
    return torch.equal(rows, whole.to(rows.dtype))


def _product(module: Any, leaf: str, whole: "Tensor") -> bool | None:  # noqa: ANN401  # a module of vLLM
    """Return whether the module multiplies as the matrix does; None if it does not multiply."""
    import torch

    method: Any = getattr(module, "quant_method", None)
    if leaf != "weight" or whole.dim() != 2 or not hasattr(method, "apply") or not _multiplies(module):
        return None
    device = next((buffer.device for buffer in (*module.parameters(), *module.buffers())), torch.device("cpu"))
    dtype = getattr(module, "params_dtype", None) or whole.dtype
    steps = torch.arange(_ROWS * whole.shape[1], dtype=torch.float64)
    probe = torch.sin(steps * 12.9898).reshape(_ROWS, -1).to(device, dtype)
    with torch.inference_mode():
        product = method.apply(module, probe)[:, : whole.shape[0]].double().cpu()
        expected = probe.double().cpu() @ whole.to(dtype).double().T
    scale = float(expected.abs().max()) or 1.0
    tolerance = _TOLERANCE.get(str(dtype).removeprefix("torch."), 5e-2)
    return bool((product - expected).abs().max() <= tolerance * scale)


def _multiplies(module: Any) -> bool:  # noqa: ANN401  # a module of vLLM
    """Return whether the module is a linear layer or an output head, and not a table of embeddings."""
    kinds = {kind.__name__ for kind in type(module).__mro__}
    return "LinearBase" in kinds or "ParallelLMHead" in kinds
