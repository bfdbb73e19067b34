"""What offers sandboxes and environments to other machines."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

from tumbler.contracts.environment import Environment
from tumbler.contracts.sandbox import SandboxBackend
from tumbler.contracts.values import JSONObject

__all__ = ["EnvironmentSource", "SandboxService"]


@runtime_checkable
class EnvironmentSource(Protocol):
    """The environments that a service may serve."""

    def names(self) -> Sequence[str]:
        """Return what `build` takes: ids of components, and names of the registry's tables."""
        ...

    def build(self, name: str, settings: JSONObject) -> Environment:
        """Build one instance; raises `ComponentNotFoundError` and `RegistryError` as the plugin host does."""
        ...


@runtime_checkable
class SandboxService(Protocol):
    """A server over one sandbox backend; its settings say where it listens and who may use it."""

    async def serve(
        self, backend: SandboxBackend, *, environments: EnvironmentSource, on_ready: Callable[[str], None]
    ) -> None:
        """Start the backend and serve it until the task is cancelled or the process gets SIGTERM or SIGINT.

        `on_ready` is called with the service's URL once it answers. At the end requests get a while to finish, and
        the backend is closed. Raises `SandboxUnavailable` where the address cannot be listened on, and
        `ContractError` for a backend that is no `ManagedBackend`.
        """
        ...
