"""Checks one component of a registry against the plugin that offers it, and completes its settings."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tumbler.config import Settings
from tumbler.errors import ComponentNotFoundError, PluginError
from tumbler.registry.annotations import secret_paths
from tumbler.registry.paths import Path, value_at
from tumbler.registry.resolved import ResolvedComponent
from tumbler.registry.secret_references import STAND_IN, reference_paths, replace_references
from tumbler.registry.selection import Selection
from tumbler.registry.source import Report
from tumbler.registry.validation import validate

if TYPE_CHECKING:
    from tumbler.plugins import PluginHost

__all__ = ["resolve_component"]


def resolve_component(selection: Selection, host: "PluginHost", report: Report) -> ResolvedComponent | None:
    """Return the component with complete settings; None, and the problems in the report, if it has some."""
    if selection.id is None:
        report.add(
            selection.locate(("use",)),
            "no component is named",
            f"add use = … with the id of {_a(selection.kind)}; `tumbler plugins` lists them",
        )
        return None
    settings = {key: value for key, value in selection.settings.items() if not _is_pipeline(selection, key)}
    model = _settings_model(selection, selection.id, host, report)
    complete = None if model is None else _complete(selection, model, settings, report)
    if complete is None:
        return None
    plugin = host.plugin(host.component(selection.kind, selection.id).plugin)
    return ResolvedComponent(
        kind=selection.kind,
        label=selection.label,
        id=selection.id,
        plugin=plugin.name,
        distribution=plugin.distribution,
        version=plugin.version,
        settings=complete,
    )


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def _is_pipeline(selection: Selection, key: str) -> bool:
    return selection.kind == "agent" and key == "context"


def _settings_model(
    selection: Selection, component_id: str, host: "PluginHost", report: Report
) -> type[Settings] | None:
    # An id that stands alone is at the reference itself; in a table it is at `use`.
    place = selection.locate(("use",)) if any("use" in table for _, table in selection.layers) else selection.place
    try:
        return host.settings_model(selection.kind, component_id)
    except ComponentNotFoundError as error:
        report.add(place, *_split(str(error)))
    except (PluginError, TypeError) as error:
        report.add(place, str(error), "mend or reinstall the plugin; `tumbler plugins --check` tells more")
    return None


def _split(text: str) -> tuple[str, str]:
    """Return what is wrong and what to do about it, which the host tells in one text."""
    separator = "; " if "; " in text else ". "
    message, _, remedy = text.partition(separator)
    return message, (remedy[:1].lower() + remedy[1:]).removesuffix(".") or "`tumbler plugins` lists what there is"


def _complete(
    selection: Selection, model: type[Settings], settings: Mapping[str, Any], report: Report
) -> dict[str, Any] | None:
    """Return the settings with defaults, references kept; None if they have problems."""
    references = dict(reference_paths(settings))
    literal = [path for path in secret_paths(model, settings) if path not in references]
    for path in literal:
        report.add(
            selection.locate(path),
            "a secret must not be written into the file",
            f'refer to an environment variable: {path[-1]} = {{ env = "NAME" }}',
        )
    instance, mistakes = validate(model, replace_references(settings, STAND_IN))
    for mistake in mistakes:
        remedy = mistake.remedy
        if mistake.path in references:
            remedy = f"only text can be a reference to an environment variable ({remedy})"
        report.add(selection.locate(mistake.path), mistake.message, remedy)
    if instance is None or literal:
        return None
    return _dumped(model, instance, references)


def _dumped(model: type[Settings], instance: Settings, references: Mapping[Path, Any]) -> dict[str, Any]:
    dumped = instance.model_dump(mode="json", by_alias=True, round_trip=True)
    for path in list(secret_paths(model, dumped)):
        # A masked default would be taken for a value; without it the default applies again.
        if path not in references:
            _table(dumped, path).pop(path[-1])
    for path, reference in references.items():
        _table(dumped, path)[path[-1]] = dict(reference)
    return dumped


def _table(document: Mapping[str, Any], path: Path) -> Any:  # noqa: ANN401  # a table or a list
    return value_at(document, path[:-1])
