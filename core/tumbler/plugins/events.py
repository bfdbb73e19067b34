"""Tells observers what happens in a run; their errors are logged and never reach the run."""

import logging
from collections.abc import Iterator

import pluggy

from tumbler.errors import ContractError
from tumbler.plugins.hooks import HookCall

__all__ = ["Observers"]

logger = logging.getLogger("tumbler.observers")


class Observers:
    """All observer hooks of all loaded plugins."""

    def __init__(self, manager: pluggy.PluginManager) -> None:
        """Call the observers that are registered with the manager at the time of each event."""
        self._manager = manager
        self._traced: set[tuple[str, str]] = set()

    def emit(self, hook: str, **event: object) -> None:
        """Call the hook of every plugin, in the order of their names.

        An observer that raises is logged with its plugin's name and does not keep the others from
        hearing of the event. Raises `ContractError` only if the event does not fit the hook.
        """
        for _ in self._results(hook, event):
            pass

    def collect(self, hook: str, **event: object) -> list[tuple[str, object]]:
        """Call the hook of every plugin as `emit` does, and return (plugin, result) of those not None."""
        return [(plugin, result) for plugin, result in self._results(hook, event) if result is not None]

    def _results(self, hook: str, event: dict[str, object]) -> Iterator[tuple[str, object]]:
        for call in self._calls(hook, event):
            try:
                result = call.function(*(event[name] for name in call.argnames))
            except Exception as error:  # noqa: BLE001 - the plugin's own code runs here, and no observer stops a run
                self._log(call.plugin_name, hook, error)
            else:
                yield call.plugin_name, result

    def _calls(self, hook: str, event: dict[str, object]) -> list[HookCall]:
        caller = getattr(self._manager.hook, hook, None)
        if caller is None or caller.spec is None:
            raise ContractError(f"there is no hook {hook!r}")
        if set(event) != set(caller.spec.argnames):
            raise ContractError(
                f"the hook {hook} tells {', '.join(caller.spec.argnames)}, but the event holds {', '.join(event)}"
            )
        return sorted(caller.get_hookimpls(), key=lambda call: call.plugin_name)

    def _log(self, plugin: str, hook: str, error: Exception) -> None:
        # An observer that fails at every trajectory must not bury the log in equal tracebacks, nor does what the
        # machine refuses, such as room on a disk that is full, need one.
        first = (plugin, hook) not in self._traced and not isinstance(error, OSError)
        self._traced.add((plugin, hook))
        logger.error("plugin %r: %s failed: %r", plugin, hook, error, exc_info=error if first else None)
