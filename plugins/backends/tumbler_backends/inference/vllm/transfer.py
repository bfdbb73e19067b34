"""Write an update's weights where the servers can read them; the latest stay until the next ones are served."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tumbler.contracts.inference import Canary, WeightUpdate
from tumbler.errors import InferenceError
from tumbler_backends.inference.vllm.server.weights import ALIASES, HEAD, read_weights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Transfer", "Weights"]

_SHARED_MEMORY = Path("/dev/shm")
_ROOM = 3
"""Times the model's size that must be free in shared memory: old and new weights lie there at once."""
_PREFIX = "tumbler-vllm-"


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights that a server can read."""

    path: Path
    version: int
    canary: Canary | None = None
    temporary: bool = False

    def remove(self) -> None:
        """Remove the file if it was made for the transfer."""
        if self.temporary:
            self.path.unlink(missing_ok=True)


class Transfer:
    """A private folder for weights of one model."""

    def __init__(self, model: Path, folder: Path | None) -> None:
        """Make the folder under `folder`, or where there is room; dead runs' folders there are removed."""
        self.model = model.absolute()
        self._shapes = _shapes(model)
        self._tied = {HEAD} if _ties_head(model) else set()
        parent = folder or _roomy(_ROOM * sum(path.stat().st_size for path in model.glob("*.safetensors")))
        try:
            parent.mkdir(parents=True, exist_ok=True)
            _sweep(parent)
            self.folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=parent))
        except OSError as error:
            raise InferenceError(f"cannot make a folder for weights in {parent}: {error}") from error

    def write(self, update: WeightUpdate) -> Weights:
        """Return the update as weights that a server can read; raise `InferenceError` for one that does not fit."""
        if update.tensors is None:
            if update.folder is None:
                raise InferenceError(f"the update to version {update.version} brings neither tensors nor a folder")
            self._require_fit(update.version, _shapes(update.folder))
            return Weights(path=update.folder.absolute(), version=update.version, canary=update.canary)
        given = dict(update.tensors())
        if update.partial:
            # Servers need all: vLLM packs matrices together, and one that is restarted has nothing else.
            given = {**self._of_the_model(), **given}
        self._require_fit(update.version, {name: tuple(tensor.shape) for name, tensor in given.items()})
        path = self.folder / f"{update.version}.safetensors"
        try:
            _save(given, path)
        except Exception as error:
            path.unlink(missing_ok=True)
            raise InferenceError(f"cannot write weights of version {update.version} to {path}: {error}") from error
        return Weights(path=path, version=update.version, canary=update.canary, temporary=True)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _of_the_model(self) -> "dict[str, Tensor]":
        try:
            return read_weights(self.model)
        except ValueError as error:
            raise InferenceError(f"an update of some weights needs the model's others: {error}") from error

    def _require_fit(self, version: int, given: Mapping[str, tuple[int, ...]]) -> None:
        known = self._shapes
        if not known:
            return  # the model's weights are in another format; the servers judge
        problems = [f"{name} is missing" for name in known if name not in given and name not in self._tied]
        problems += [f"{name} is unknown" for name in given if name not in known and name not in self._tied]
        both = [name for name in given if name in known and given[name] != known[name]]
        problems += [f"{name} has shape {list(given[name])} instead of {list(known[name])}" for name in both]
        if problems:
            more = f" and {len(problems) - 10} more" if len(problems) > 10 else ""
            raise InferenceError(
                f"weights of version {version} do not fit the model: {'; '.join(problems[:10])}{more}. Expected "
                "the names and shapes of the model that `start` loaded; the old weights stay in use."
            )


def _ties_head(model: Path) -> bool:
    """Return whether the output head is the embeddings, which may then be sent or not: the servers complete it."""
    try:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InferenceError(f"cannot read {model / 'config.json'}: {error}") from error
    return bool(config.get("tie_word_embeddings") or config.get("text_config", {}).get("tie_word_embeddings"))


def _save(given: "Mapping[str, Tensor]", path: Path) -> None:
    from safetensors.torch import save_file

    stored: dict[tuple[int, ...], str] = {}
    aliases: dict[str, str] = {}
    for name, tensor in given.items():
        first = stored.setdefault((tensor.data_ptr(), *tensor.shape, *tensor.stride()), name)
        if first != name:
            aliases[name] = first
    distinct = {name: tensor.detach().cpu().contiguous() for name, tensor in given.items() if name not in aliases}
    save_file(distinct, path, metadata={ALIASES: json.dumps(aliases)})


def _shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors in the folder's safetensors, from the files' headers alone."""
    shapes: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        shapes.update((name, tuple(entry["shape"])) for name, entry in header.items() if name != "__metadata__")
    return shapes


def _roomy(size: int) -> Path:
    if _SHARED_MEMORY.is_dir() and os.access(_SHARED_MEMORY, os.W_OK):
        free = shutil.disk_usage(_SHARED_MEMORY).free
        if free >= max(size, 1):
            return _SHARED_MEMORY
    return Path(tempfile.gettempdir())


def _sweep(parent: Path) -> None:
    """Remove folders whose run and servers were killed at once."""
    for folder in parent.glob(f"{_PREFIX}*"):
        owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if owner.isdigit() and not _lives(int(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
