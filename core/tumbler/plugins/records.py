"""What the host knows of a plugin and of a component; holds no behaviour."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

from tumbler.errors import PluginError
from tumbler.plugins.names import FIRST_PARTY, normalise
from tumbler.specs import ComponentKind, ComponentSpec

__all__ = ["Component", "PluginInfo", "PluginStatus"]

PluginStatus: TypeAlias = Literal["ok", "failed", "disabled", "not-allowed", "other-major"]
"""`disabled` and `not-allowed` plugins were kept out by a list and never imported; `other-major` ones are
written for another major version of the plugin API.
"""


@dataclass(frozen=True, kw_only=True)
class PluginInfo:
    """One plugin that was found, whether or not it could be loaded."""

    name: str
    distribution: str
    """As its metadata spell it."""
    version: str
    value: str
    """What the entry point names: a module."""
    group: str
    """The entry-point group, which is the plugin API's major version."""
    status: PluginStatus
    error: PluginError | None = None
    """Why the plugin is of no use, for the status `failed` and `other-major`."""
    seconds: float = 0.0
    """Wall time of import and registration."""
    hooks: tuple[str, ...] = ()
    """The hooks that it implements."""

    @property
    def first_party(self) -> bool:
        """Return whether the plugin belongs to Tumbler's own distribution."""
        return normalise(self.distribution) == FIRST_PARTY

    def __str__(self) -> str:
        return f"plugin {self.name!r} ({self.distribution} {self.version})"


@dataclass(frozen=True, kw_only=True)
class Component:
    """One component on offer."""

    kind: ComponentKind
    id: str
    """The bare name for a first-party component, else `plugin/name`."""
    plugin: str
    """The name of the plugin that offers it; `PluginHost.plugin` tells more."""
    spec: ComponentSpec
