"""Writes a new plugin distribution from the templates beside this module."""

import json
import tomllib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from tumbler import __version__
from tumbler.errors import PluginError
from tumbler.scaffolding.kinds import KIND_PARTS, KindParts
from tumbler.scaffolding.names import PluginNames
from tumbler.specs import ComponentKind

__all__ = ["plugin_files", "write_plugin"]

_TEMPLATES = files("tumbler.scaffolding") / "templates"


def write_plugin(names: PluginNames, kinds: Sequence[ComponentKind], folder: Path) -> list[Path]:
    """Write the distribution into a new folder and return its files; raise `PluginError` if the folder exists."""
    if folder.exists():
        raise PluginError(f"{folder} exists already; nothing was written. Choose another folder with --folder")
    written = []
    try:
        for path, text in plugin_files(names, kinds).items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
            written.append(target)
    except OSError as error:
        raise PluginError(f"{folder} could not be written: {error}") from error
    return written


def plugin_files(names: PluginNames, kinds: Sequence[ComponentKind]) -> dict[str, str]:
    """Return path → text of a distribution with one component of each of the kinds."""
    chosen: list[ComponentKind] = [kind for kind in KIND_PARTS if kind in kinds]
    values = {
        "name": names.plugin,
        "distribution": names.distribution,
        "package": names.package,
        "prefix": names.prefix,
        "version": __version__,
        "next_major": str(int(__version__.partition(".")[0]) + 1),
    }
    source = f"src/{names.package}"
    written = {
        "pyproject.toml": _filled("pyproject.toml", values),
        "README.md": _filled("README.md", {**values, "components": _component_rows(names, chosen)}),
        "registry.toml": _registry(names, chosen, values),
        ".gitignore": _filled("gitignore", values),
        f"{source}/__init__.py": _filled("__init__.py", values),
        f"{source}/py.typed": "",
        f"{source}/plugin.py": _plugin_module(names, chosen, values),
        "tests/test_plugin.py": _filled("test_plugin.py", values),
    }
    for kind in chosen:
        module = KIND_PARTS[kind].module
        written[f"{source}/{module}.py"] = _filled(f"{kind}/component.py", values)
        written[f"tests/test_{module}.py"] = _filled(f"{kind}/test.py", values)
    return written


def _filled(template: str, values: dict[str, str]) -> str:
    path = _TEMPLATES.joinpath(*f"{template}.template".split("/"))
    return Template(path.read_text(encoding="utf-8")).substitute(values)


def _plugin_module(names: PluginNames, kinds: Sequence[ComponentKind], values: dict[str, str]) -> str:
    parts = [KIND_PARTS[kind] for kind in kinds]
    contracts = sorted(part.contract.split(".") for part in parts)
    hooks = [
        _filled("registration.py", {**values, **_registration(names, kind, KIND_PARTS[kind])}).rstrip()
        for kind in kinds
    ]
    imports = {
        "specs": ", ".join(sorted(part.spec for part in parts)),
        "contracts": "\n".join(f"    from tumbler.contracts.{module} import {name}" for module, name in contracts),
        "registrations": "\n\n\n".join(hooks),
    }
    return _filled("plugin.py", {**values, **imports})


def _registration(names: PluginNames, kind: ComponentKind, part: KindParts) -> dict[str, str]:
    return {
        "kind": kind.replace("-", " "),
        "module": part.module,
        "class_name": f"{names.prefix}{_camel(part.module)}",
        "hook": part.hook,
        "spec": part.spec,
        "contract": part.contract.partition(".")[2],
        "summary": part.summary,
        "arguments": "".join(f"\n            {argument}," for argument in part.arguments),
    }


def _registry(names: PluginNames, kinds: Sequence[ComponentKind], values: dict[str, str]) -> str:
    """Return a registry whose run uses the new components, and Tumbler's own for all else."""
    stand_ins: dict[str, Any] = tomllib.loads(_filled("stand-ins.toml", values))
    own = f'{{ use = "{names.plugin}/{names.plugin}" }}'
    uses = {kind.replace("-", "_"): own if kind in kinds else stand_ins[kind] for kind in KIND_PARTS}
    agent = tomllib.loads(f"agent = {uses['agent']}")["agent"]
    lines = [f"{key} = {json.dumps(value)}" for key, value in agent.items()]
    return _filled("registry.toml", {**values, **uses, "agent_lines": "\n".join(lines)})


def _component_rows(names: PluginNames, kinds: Sequence[ComponentKind]) -> str:
    return "\n".join(
        f"| `{names.plugin}/{names.plugin}` | {kind.replace('-', ' ')} | `{KIND_PARTS[kind].module}.py` |"
        for kind in kinds
    )


def _camel(module: str) -> str:
    return "".join(word.capitalize() for word in module.split("_"))
