"""What a model source is: it puts a model folder in Hugging Face format where the run asks for it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol, runtime_checkable

__all__ = ["ModelSource"]


@runtime_checkable
class ModelSource(Protocol):
    """Makes or finds the model that a run starts from."""

    def prepare(self, folder: Path, *, texts: Iterable[str], seed: int) -> Path:
        """Return a model folder: weights, config, tokenizer, chat template.

        `folder` is empty and the source's own to fill; a source that finds a ready folder returns that.
        `texts` are sample demonstrations of the run's environment, for sources that build a tokenizer;
        take none of them otherwise, since they cost time to make.
        """
        ...
