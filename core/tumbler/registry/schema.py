"""The JSON Schema of `registry.toml` for editors, made from the tables and the installed components."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from pydantic.errors import PydanticInvalidForJsonSchema

from tumbler.contracts.values import JSONObject
from tumbler.errors import PluginError
from tumbler.registry.model import ROLES, SECTIONS, RegistryFile
from tumbler.specs import BackendRole, BackendSpec, ComponentKind

if TYPE_CHECKING:
    from tumbler.plugins import Component, PluginHost

__all__ = ["json_schema"]

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_RUN_KEYS: Mapping[str, ComponentKind] = {
    "env": "environment",
    "agent": "agent",
    "algorithm": "algorithm",
    "model": "model",
}
_Required: TypeAlias = Mapping[str, Sequence[str]]
_VARIABLE: JSONObject = {
    "type": "object",
    "description": "The value of an environment variable, read when the component is built.",
    "properties": {"env": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}},
    "required": ["env"],
    "additionalProperties": False,
}


def json_schema(host: "PluginHost") -> JSONObject:
    """Return the JSON Schema (draft 2020-12) of a registry file that uses what is installed.

    Components whose settings cannot be loaded, or not be told in JSON Schema, take any settings.
    """
    schema: dict[str, Any] = RegistryFile.model_json_schema(by_alias=True)
    definitions: dict[str, Any] = schema["$defs"]
    definitions["EnvironmentVariable"] = _VARIABLE
    for component in host.components():
        definitions.update(_settings_definitions(component, host))
    required = {name: value.pop("required", []) for name, value in definitions.items() if name in _keys(host)}
    for section, kind in SECTIONS.items():
        named = _table(kind, host.components(kind), required)
        schema["properties"][section]["additionalProperties"] = {**named, "required": ["use"]}
    _fill_references(definitions, host, required)
    for unused in ("ComponentTable", "AgentTable"):
        definitions.pop(unused, None)
    return {"$schema": _DIALECT, **schema, "title": "registry.toml", "required": ["schema"]}


def _settings_definitions(component: "Component", host: "PluginHost") -> dict[str, Any]:
    """Return the definition of the component's settings and those that it refers to."""
    key = _key(component)
    try:
        model = host.settings_model(component.kind, component.id)
        settings: dict[str, Any] = model.model_json_schema(by_alias=True, ref_template=f"#/$defs/{key}.{{model}}")
    except (PluginError, PydanticInvalidForJsonSchema):
        return {key: {"description": component.spec.summary}}
    _allow_variables(settings)
    inner = settings.pop("$defs", {})
    settings["description"] = component.spec.summary
    # These stand beside the settings in the same table.
    settings.setdefault("properties", {}).update(
        {"use": True} | ({"context": True} if component.kind == "agent" else {})
    )
    return {key: settings, **{f"{key}.{name}": value for name, value in inner.items()}}


def _keys(host: "PluginHost") -> set[str]:
    return {_key(component) for component in host.components()}


def _key(component: "Component") -> str:
    return f"{component.kind}.{component.id.replace('/', '.')}"


def _allow_variables(schema: object) -> None:
    """Let an environment variable stand for every text; for a secret nothing else may."""
    children = schema.values() if isinstance(schema, dict) else schema if isinstance(schema, list) else ()
    for child in list(children):
        _allow_variables(child)
    if not isinstance(schema, dict) or schema.get("type") != "string" or "enum" in schema or "const" in schema:
        return
    text = {name: schema.pop(name) for name in list(schema) if name not in ("default", "description", "title")}
    variable = {"$ref": "#/$defs/EnvironmentVariable"}
    schema.update(variable if text.get("format") == "password" else {"anyOf": [text, variable]})


def _table(kind: ComponentKind, components: Iterable["Component"], required: _Required) -> dict[str, Any]:
    """Return the schema of a table with `use` and settings.

    `required` are the settings that each component cannot do without; give none where a run may
    inherit them.
    """
    known = list(components)
    use = {"description": "The component; the other keys are its settings.", "enum": [each.id for each in known]}
    properties: dict[str, Any] = {"use": use}
    if kind == "agent":
        properties["context"] = {
            "description": "Context strategies in order.",
            "type": "array",
            "items": {"$ref": "#/$defs/context-strategy"},
        }
    branches = [_branch(each, required) for each in known]
    return {"type": "object", "properties": properties, **({"allOf": branches} if branches else {})}


def _branch(component: "Component", required: _Required) -> dict[str, Any]:
    key = _key(component)
    then: dict[str, Any] = {"$ref": f"#/$defs/{key}"}
    if required.get(key):
        then["required"] = required[key]
    return {"if": {"properties": {"use": {"const": component.id}}, "required": ["use"]}, "then": then}


def _fill_references(definitions: dict[str, Any], host: "PluginHost", required: _Required) -> None:
    """Say at each place of a run what kind of component stands there."""
    strategy = _table("context-strategy", host.components("context-strategy"), required)
    definitions["context-strategy"] = _named_or({**strategy, "required": ["use"]})
    for kind in _RUN_KEYS.values():
        definitions[kind] = _named_or(_table(kind, host.components(kind), {}))
    for role in ROLES:
        definitions[role] = _named_or(_table("backend", _able(host, role), {}))
    places: list[tuple[str, str, str]] = [("RunTable", key, kind) for key, kind in _RUN_KEYS.items()]
    places += [(table, "env", "environment") for table in ("SftTable", "RlTable")]
    places += [("TeacherTable", "inference", "inference"), ("TeacherTable", "model", "model")]
    for table, key, definition in [*places, *(("BackendsTable", role, role) for role in ROLES)]:
        properties = definitions[table]["properties"]
        properties[key] = {"description": properties[key]["description"], "$ref": f"#/$defs/{definition}"}
    definitions["EvalTable"]["properties"]["envs"]["items"] = {"$ref": "#/$defs/environment"}


def _named_or(table: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [{"type": "string", "minLength": 1}, table]}


def _able(host: "PluginHost", role: BackendRole) -> list["Component"]:
    backends = host.components("backend")
    return [each for each in backends if isinstance(each.spec, BackendSpec) and role in each.spec.roles]
