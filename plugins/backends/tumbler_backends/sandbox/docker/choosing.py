"""Choose how containers are isolated and how commands get into them, from what the engine and the settings say."""

import os
from typing import Final

from tumbler.contracts.sandbox import IsolationTier
from tumbler.errors import SandboxUnavailable
from tumbler_backends.sandbox.docker.engine import Engine
from tumbler_backends.sandbox.docker.settings import DockerSettings

__all__ = ["choose_runtime", "goes_past"]

_GVISOR: Final = "runsc"


def choose_runtime(engine: Engine, settings: DockerSettings) -> tuple[str | None, IsolationTier]:
    """Return the runtime to ask for, and the tier that it gives."""
    chosen = settings.runtime
    if chosen is not None and chosen not in engine.facts.runtimes:
        known = ", ".join(sorted(engine.facts.runtimes))
        raise SandboxUnavailable(f"the engine at {engine.address} has no runtime {chosen!r}, only {known}")
    if chosen is None and _GVISOR in engine.facts.runtimes:
        chosen = _GVISOR
    return chosen, "gvisor" if (chosen or engine.facts.default_runtime) == _GVISOR else "namespace"


def goes_past(engine: Engine, settings: DockerSettings, tier: IsolationTier) -> bool:
    """Tell whether commands are started past the engine; raise `SandboxUnavailable` where that is asked for in vain."""
    if settings.past_the_engine is False:
        return False
    possible = tier == "namespace" and os.geteuid() == 0 and engine.shares_this_machine()
    if settings.past_the_engine and not possible:
        raise SandboxUnavailable(
            f"commands cannot be started past the engine at {engine.address}: that needs an engine on this machine, "
            "root, and a runtime other than gVisor; leave `past_the_engine` out, or set it to false"
        )
    return possible
