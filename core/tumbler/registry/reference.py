"""Writes the reference pages of the registry and of all settings, from the models that check them."""

from collections.abc import Iterator
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretBytes, SecretStr
from pydantic.fields import FieldInfo

from tumbler.registry.model import (
    AgentTable,
    BackendsTable,
    ComponentTable,
    EvalTable,
    ExpertsTable,
    LimitsTable,
    PluginsTable,
    Reference,
    RegistryFile,
    RlTable,
    RunTable,
    SamplingTable,
    SftTable,
    TeacherTable,
)
from tumbler.specs import KINDS, BackendSpec

if TYPE_CHECKING:
    from tumbler.plugins import Component, PluginHost

__all__ = ["registry_page", "settings_page"]

_NOTICE = "<!-- Written by docs/generate.py; edit the docstrings in the source instead. -->"
_TABLES: tuple[tuple[str, type[BaseModel]], ...] = (
    ("The file", RegistryFile),
    ("`[plugins]`", PluginsTable),
    ("`[envs.NAME]`, `[algorithms.NAME]`, `[models.NAME]`, `[backends.NAME]`", ComponentTable),
    ("`[agents.NAME]`", AgentTable),
    ("`[runs.NAME]`", RunTable),
    ("`[runs.NAME.backends]`", BackendsTable),
    ("`[runs.NAME.limits]`", LimitsTable),
    ("`[runs.NAME.sampling]`", SamplingTable),
    ("`[runs.NAME.sft]`", SftTable),
    ("`[runs.NAME.rl]`", RlTable),
    ("`[runs.NAME.rl.experts]`", ExpertsTable),
    ("`[runs.NAME.rl.experts.teacher]`", TeacherTable),
    ("`[runs.NAME.eval]`", EvalTable),
)
_CONSTRAINTS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def registry_page() -> str:
    """Return the page on the tables of `registry.toml`, in Markdown."""
    parts = [_NOTICE, "# registry.toml", "Every table of the file and its keys. Keys that are not listed are refused."]
    for heading, model in _TABLES:
        parts += [f"## {heading}", _summary(model), _keys(model)]
    return "\n\n".join(part for part in parts if part) + "\n"


def settings_page(host: "PluginHost") -> str:
    """Return the page on the settings of every component that the host offers, in Markdown."""
    parts = [_NOTICE, "# Settings", "The components that are installed, and what can be set in their tables."]
    for kind in KINDS:
        components = host.components(kind)
        if components:
            parts.append(f"## {kind.replace('-', ' ').capitalize()}")
        for component in components:
            parts += _component(component, host)
    return "\n\n".join(part for part in parts if part) + "\n"


def _component(component: "Component", host: "PluginHost") -> Iterator[str]:
    spec = component.spec
    yield f"### `{component.id}`"
    yield spec.summary
    facts = []
    if isinstance(spec, BackendSpec):
        facts.append(f"Roles: {', '.join(spec.roles)}.")
    if spec.needs:
        facts.append(f"Needs: {', '.join(spec.needs)}.")
    if spec.extra is not None:
        facts.append(f"Install with: `pip install '{host.plugin(component.plugin).distribution}[{spec.extra}]'`.")
    yield " ".join(facts)
    model = host.settings_model(component.kind, component.id)
    yield _keys(model) if model.model_fields else "It has no settings."


def _summary(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def _keys(model: type[BaseModel]) -> str:
    """Return a table of the model's fields; those of a model in a field follow with a dotted key."""
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key, field in _fields(model):
        cells = (f"`{key}`", _type(field), _default(field), " ".join((field.description or "").split()))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    own_page = {table for _, table in _TABLES}
    for name, field in model.model_fields.items():
        key = f"{prefix}{field.alias or name}"
        yield key, field
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel) and inner not in own_page:
            yield from _fields(inner, f"{key}.")


def _type(field: FieldInfo) -> str:
    limits = [
        f"{sign} {value}" for name, sign in _CONSTRAINTS.items() if (value := _constraint(field, name)) is not None
    ]
    return ", ".join([_name(field.annotation), *limits])


def _constraint(field: FieldInfo, name: str) -> Any:  # noqa: ANN401  # whatever the field is compared with
    found = (getattr(each, name, None) for each in field.metadata)
    return next((value for value in found if value is not None), None)


def _name(annotation: object) -> str:
    """Return how a value is written in TOML."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation == Reference:
        return "name or table"
    if origin is Annotated:
        return _name(arguments[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_name(each) for each in arguments if each is not NoneType))
    if origin is Literal:
        return ", ".join(f"`{_toml(each)}`" for each in arguments)
    if origin in (tuple, list, set, frozenset):
        return f"list of {_name(arguments[0])}"
    if isinstance(origin, type):
        return "table"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    if isinstance(annotation, type) and issubclass(annotation, SecretStr | SecretBytes):
        return '`{ env = "NAME" }`'
    names = {int: "integer", float: "number", bool: "boolean"}
    return next((name for kind, name in names.items() if annotation is kind), "text")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or isinstance(value, BaseModel | dict | SecretStr | SecretBytes):
        return "–"
    return f"`{_toml(value)}`"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple | list | set | frozenset):
        return f"[{', '.join(_toml(each) for each in value)}]"
    return f'"{value}"'
