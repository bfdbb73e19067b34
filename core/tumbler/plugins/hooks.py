"""Registers plugin modules with pluggy and checks their hook implementations; knows no component."""

import inspect
from collections.abc import Iterator
from types import ModuleType

import pluggy

from tumbler import hookspecs, observers
from tumbler.errors import PluginLoadError
from tumbler.markers import PROJECT
from tumbler.plugins.names import did_you_mean

__all__ = ["HookCall", "new_plugin_manager", "register", "registered_hooks"]

HookCall = pluggy.HookImpl
"""One plugin's implementation of one hook."""


def new_plugin_manager() -> pluggy.PluginManager:
    """Return a pluggy manager that knows all hooks and no plugin."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(hookspecs)
    manager.add_hookspecs(observers)
    return manager


def register(manager: pluggy.PluginManager, name: str, module: ModuleType) -> None:
    """Register the module, or leave no trace of it and raise `PluginLoadError` with all of its problems."""
    problems = list(_problems(manager, module))
    if problems:
        raise PluginLoadError("; ".join(problems))
    try:
        manager.register(module, name)
        # Should a version of pluggy see hook functions that the check above does not, they are not let pass.
        manager.check_pending()
    except (ValueError, pluggy.PluginValidationError) as error:
        # pluggy up to 1.6 keeps what it registered before it found the fault.
        if manager.has_plugin(name):
            manager.unregister(name=name)
        raise PluginLoadError(str(error)) from error


def registered_hooks(manager: pluggy.PluginManager, module: ModuleType) -> tuple[str, ...]:
    """Return the names of the hooks that a registered module implements, sorted."""
    return tuple(sorted(caller.name for caller in manager.get_hookcallers(module) or ()))


def _problems(manager: pluggy.PluginManager, module: ModuleType) -> Iterator[str]:
    known = {name for name, caller in vars(manager.hook).items() if not name.startswith("_") and caller.has_spec()}
    implemented = 0
    for name in dir(module):
        options = manager.parse_hookimpl_opts(module, name)
        if options is None:
            yield from _unmarked(module, name, known)
            continue
        implemented += 1
        hook = options.get("specname") or name
        if hook in known:
            accepted = getattr(manager.hook, hook).spec.argnames
            wraps = bool(options.get("wrapper") or options.get("hookwrapper"))
            yield from _function_problems(hook, getattr(module, name), accepted, wraps=wraps)
        elif not options.get("optionalhook"):
            yield f"implements the hook {hook!r}, which does not exist. {did_you_mean(hook, known)}"
    if not implemented:
        yield f"{module.__name__} implements no hook; mark its functions with @hookimpl, imported from tumbler"


def _unmarked(module: ModuleType, name: str, known: set[str]) -> Iterator[str]:
    function = vars(module).get(name)
    if name in known and inspect.isfunction(function) and function.__module__ == module.__name__:
        yield f"the function {name} has the name of a hook but is not marked with @hookimpl"


def _function_problems(hook: str, function: object, accepted: tuple[str, ...], *, wraps: bool) -> Iterator[str]:
    if wraps:
        yield f"hook {hook}: wrappers are not supported; implement the hook itself"
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        yield f"hook {hook}: must be a plain function, not an async one"
    if not callable(function):
        return
    for parameter in inspect.signature(function).parameters.values():
        if parameter.default is not parameter.empty:
            # pluggy up to 1.6 never passes such an argument: the plugin would always see the default.
            yield f"hook {hook}: the argument {parameter.name!r} has a default value; take the default away"
        elif parameter.kind is not parameter.POSITIONAL_OR_KEYWORD:
            yield f"hook {hook}: the argument {parameter.name!r} must be a plain one, without * or /"
        elif parameter.name not in accepted:
            allowed = f"it may take any of: {', '.join(accepted)}" if accepted else "the hook takes none"
            yield f"hook {hook}: there is no argument {parameter.name!r}; {allowed}"
