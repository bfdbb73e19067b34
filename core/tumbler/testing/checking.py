"""Checks one installed plugin as a whole; knows no plugin."""

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, metadata
from typing import TYPE_CHECKING

from tumbler.errors import ComponentNotFoundError, PluginError, TumblerError
from tumbler.plugins.host import PluginHost
from tumbler.plugins.loading import install_command
from tumbler.plugins.lookup import reason
from tumbler.plugins.protocols import contracts_of, missing_members
from tumbler.plugins.records import Component, PluginInfo

if TYPE_CHECKING:
    from tumbler.config import Settings

__all__ = ["HEAVY_PACKAGES", "check_plugin"]

HEAVY_PACKAGES = (
    "accelerate",
    "docker",
    "e2b",
    "jax",
    "modal",
    "numpy",
    "pandas",
    "pydantic",
    "ray",
    "tensorflow",
    "tokenizers",
    "torch",
    "transformers",
    "trl",
    "vllm",
)
"""Packages that a plugin module must not import: every command of Tumbler would wait for them."""

_PROBE = """
import importlib, json, sys
import tumbler.specs, tumbler.observers
before = set(sys.modules)
importlib.import_module(sys.argv[1])
print(json.dumps(sorted({name.partition(".")[0] for name in set(sys.modules) - before})))
"""


def check_plugin(name: str) -> list[str]:
    """Return all that is wrong with an installed plugin, one sentence each; an empty list if nothing is.

    The plugin is found through its entry point and imported; names, hooks and their arguments are checked;
    its module must import nothing heavy; each component's settings must refuse unknown keys, and the
    component itself must load and keep its contract. A package that is missing is named with the command
    that installs it.
    """
    host = PluginHost.load()
    try:
        info = host.plugin(name)
    except ComponentNotFoundError as error:
        return [f"{error} A plugin that was just declared is found once its distribution is reinstalled."]
    if info.status != "ok":
        return [reason(info)]
    problems = list(_import_problems(info))
    for component in host.components():
        if component.plugin == name:
            problems += [
                f"{component.kind} {component.id!r}: {problem}" for problem in _problems(host, info, component)
            ]
    return problems


def _import_problems(info: PluginInfo) -> Iterator[str]:
    # A process of its own: in this one the packages may have been imported by anything.
    probe = subprocess.run([sys.executable, "-c", _PROBE, info.value], capture_output=True, text=True, check=False)
    if probe.returncode:
        yield f"importing {info.value} in a new process failed: {probe.stderr.strip().splitlines()[-1]}"
        return
    for package in json.loads(probe.stdout.splitlines()[-1]):
        if package in HEAVY_PACKAGES:
            yield f"importing {info.value} imports {package!r}; move the import into `load` or `config`"


def _problems(host: PluginHost, info: PluginInfo, component: Component) -> Iterator[str]:
    extra = component.spec.extra
    if extra is not None and extra not in _extras(info):
        yield f"its extra {extra!r} is not one of {info.distribution}; declare it under [project.optional-dependencies]"
    try:
        model = host.settings_model(component.kind, component.id)
    except TumblerError as error:
        yield str(error)
        return
    if model.model_config.get("extra") != "forbid":
        yield f'{model.__qualname__} must keep extra="forbid", so that a misspelt key is refused'
    try:
        yield from _contract_problems(host, info, component, model)
    except PluginError as error:
        yield str(error)
    except TumblerError as error:
        yield f"it could not be built: {error}"


def _contract_problems(
    host: PluginHost, info: PluginInfo, component: Component, model: "type[Settings]"
) -> Iterator[str]:
    """Build the component from its default settings, or look at its class if some have no default."""
    if not any(field.is_required() for field in model.model_fields.values()):
        from pydantic import ValidationError

        try:
            settings = model()
        except ValidationError:
            # A model may ask for one of several keys: then there are no default settings.
            settings = None
        if settings is not None:
            host.build(component.kind, component.id, settings)
            return
    try:
        loaded: object = component.spec.load()  # type: ignore[attr-defined]  # each kind's spec types it anew
    except ModuleNotFoundError as error:
        yield f"it needs the package {error.name!r}; install it with: {install_command(component, info)}"
        return
    except Exception as error:  # noqa: BLE001  # the plugin's own code runs here
        yield f"`load` failed: {type(error).__name__}: {error}"
        return
    if not isinstance(loaded, type):
        yield f"`load` must return a class, not {loaded!r}"
        return
    for contract in contracts_of(component.kind, component.spec):
        missing = missing_members(loaded, contract)
        if missing:
            yield f"{loaded.__qualname__} does not keep {contract.__name__}; it lacks: {', '.join(missing)}"


def _extras(info: PluginInfo) -> list[str]:
    try:
        return metadata(info.distribution).get_all("Provides-Extra") or []
    except PackageNotFoundError:
        return []
