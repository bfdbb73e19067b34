"""The base class of every component's settings."""

from pydantic import BaseModel, ConfigDict

__all__ = ["NoSettings", "Settings"]


class Settings(BaseModel):
    """The settings of one component, as written in `registry.toml`.

    Subclass it and put a docstring under each field: it becomes the field's description in the
    JSON Schema and in the registry reference. Unknown keys are refused.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, validate_default=True)


class NoSettings(Settings):
    """For components that have nothing to set."""
