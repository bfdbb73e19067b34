"""Runs plugin code that loads and builds components, and turns its failures into Tumbler's errors."""

from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

from tumbler.errors import ContractError, MissingExtraError, PluginLoadError, RegistryError, TumblerError
from tumbler.markers import PROJECT
from tumbler.plugins.names import did_you_mean
from tumbler.plugins.protocols import contracts_of, missing_members
from tumbler.plugins.records import Component, PluginInfo

if TYPE_CHECKING:
    from pydantic import ValidationError

    from tumbler.config import Settings
    from tumbler.contracts.values import JSON

__all__ = ["build_component", "install_command", "load_class", "load_settings_model"]

Loaded = TypeVar("Loaded")


def load_settings_model(component: Component, plugin: PluginInfo) -> "type[Settings]":
    """Return the component's settings class; raise `ContractError` if it is none."""
    from tumbler.config import Settings

    model = _run(component.spec.config, component, plugin)
    if not (isinstance(model, type) and issubclass(model, Settings)):
        raise ContractError(
            f"{_described(component, plugin)}: `config` must return a subclass of {Settings.__module__}.Settings, "
            f"not {model!r}"
        )
    return model


def load_class(component: Component, plugin: PluginInfo) -> type:
    """Return the component's class; raise `ContractError` if it is none."""
    load: Callable[[], object] = component.spec.load  # type: ignore[attr-defined]  # each kind's spec types it anew
    loaded = _run(load, component, plugin)
    if not isinstance(loaded, type):
        raise ContractError(f"{_described(component, plugin)}: `load` must return a class, not {loaded!r}")
    return loaded


def build_component(component: Component, plugin: PluginInfo, settings: "Settings | Mapping[str, JSON]") -> object:
    """Return the component's object, checked against the Protocols of its kind."""
    checked = _checked_settings(component, plugin, settings)
    loaded = load_class(component, plugin)
    built: object = _run(lambda: loaded(checked), component, plugin)
    for contract in contracts_of(component.kind, component.spec):
        missing = missing_members(built, contract)
        if missing:
            raise ContractError(
                f"{_described(component, plugin)}: {loaded.__module__}.{loaded.__qualname__} does not keep the "
                f"contract {contract.__module__}.{contract.__name__}; it lacks: {', '.join(missing)}"
            )
    return built


def install_command(component: Component, plugin: PluginInfo) -> str:
    """Return the command that installs what the component needs."""
    extra = component.spec.extra
    return f"pip install '{plugin.distribution}{f'[{extra}]' if extra else ''}'"


def _checked_settings(
    component: Component, plugin: PluginInfo, settings: "Settings | Mapping[str, JSON]"
) -> "Settings":
    model = load_settings_model(component, plugin)
    if isinstance(settings, model):
        return settings
    if not isinstance(settings, Mapping):
        raise ContractError(
            f"{_described(component, plugin)} takes settings of the class {model.__name__} or a mapping, "
            f"not {settings!r}"
        )
    from pydantic import ValidationError

    try:
        return model.model_validate(dict(settings))
    except ValidationError as error:
        raise RegistryError(
            f"the settings of {_described(component, plugin)} cannot be used:\n" + _problems(error, model)
        ) from error


def _problems(error: "ValidationError", model: "type[Settings]") -> str:
    lines = []
    for problem in error.errors(include_url=False):
        path = ".".join(str(part) for part in problem["loc"])
        hint = f" {did_you_mean(path, model.model_fields)}" if problem["type"] == "extra_forbidden" else ""
        lines.append(f"  - {path or 'settings'}: {problem['msg']}.{hint}")
    return "\n".join(lines)


def _run(function: Callable[[], Loaded], component: Component, plugin: PluginInfo) -> Loaded:
    try:
        return function()
    except TumblerError:
        raise
    except ModuleNotFoundError as error:
        if error.name is None or _is_own(error.name, plugin):
            raise PluginLoadError(f"{_described(component, plugin)} could not be loaded: {error}") from error
        raise MissingExtraError(_missing(error.name, component, plugin)) from error
    except Exception as error:  # the plugin's own code runs here
        raise PluginLoadError(
            f"{_described(component, plugin)} could not be loaded: {type(error).__name__}: {error}"
        ) from error


def _is_own(module: str, plugin: PluginInfo) -> bool:
    return _top(module) in (_top(plugin.value), PROJECT)


def _missing(module: str, component: Component, plugin: PluginInfo) -> str:
    package, command = _top(module), install_command(component, plugin)
    if package != module and find_spec(package) is not None:
        upgrade = command.replace("pip install", "pip install --upgrade", 1)
        return (
            f"{_described(component, plugin)} needs the module {module!r}, which the installed version of the package "
            f"{package!r} does not have; install one that has it with: {upgrade}"
        )
    return f"{_described(component, plugin)} needs the package {package!r}; install it with: {command}"


def _top(module: str) -> str:
    return module.partition(".")[0]


def _described(component: Component, plugin: PluginInfo) -> str:
    return f"{component.kind} {component.id!r} of {plugin}"
