"""`tumbler plugins`: list the plugins, check them, or explain one."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from tumbler.plugins.host import PluginHost
from tumbler.plugins.lists import PluginTable, read_plugin_table
from tumbler.plugins.offers import REGISTRATION_HOOKS
from tumbler.plugins.records import PluginInfo
from tumbler.specs import BackendSpec

if TYPE_CHECKING:
    from tumbler.contracts.values import JSONObject

__all__ = ["add_arguments", "plugin_table", "run"]

DEFAULT_REGISTRY = Path("registry.toml")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("action", nargs="?", choices=["why"], help="explain the plugin, component or distribution NAME")
    parser.add_argument("name", nargs="?", metavar="NAME")
    parser.add_argument("--check", action="store_true", help="exit with 1 if anything is wrong with the plugins")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--registry", type=Path, help=f"whose lists under [plugins] apply; default: {DEFAULT_REGISTRY}, if it exists"
    )
    parser.set_defaults(refuse=parser.error)


def run(args: argparse.Namespace) -> int:
    """Carry out the command."""
    if args.action == "why" and not args.name:
        args.refuse("why needs a NAME")
    table = plugin_table(args.registry)
    host = PluginHost.load(allow=table.allow, disable=table.disable)
    if args.action == "why":
        return _why(host, args.name)
    problems = _problems(host, table) if args.check else host.check()
    if args.json:
        print(json.dumps(_record(host, problems), indent=2))
    else:
        _print_listing(host, problems)
    return 1 if args.check and problems else 0


def plugin_table(registry: Path | None) -> PluginTable:
    """Return the lists that apply: those of the file, or of the folder's registry.toml if it has one."""
    if registry is None and not DEFAULT_REGISTRY.exists():
        return PluginTable()
    return read_plugin_table(registry or DEFAULT_REGISTRY)


def _why(host: PluginHost, name: str) -> int:
    from tumbler.plugins.drift import drifted_entry_points
    from tumbler.plugins.explain import explain

    there, lines = explain(host, name, drifted_entry_points())
    print("\n".join(lines))
    return 0 if there else 1


def _problems(host: PluginHost, table: PluginTable) -> list[str]:
    from tumbler.plugins.drift import drifted_entry_points
    from tumbler.plugins.requirements import check_requirements

    return [*host.check(), *check_requirements(table.require), *drifted_entry_points()]


def _print_listing(host: PluginHost, problems: list[str]) -> None:
    rows = [("PLUGIN", "DISTRIBUTION", "STATUS", "OFFERS")]
    rows += [
        (info.name, f"{info.distribution} {info.version}", info.status, _offers(host, info)) for info in host.plugins
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)]
        print("  ".join([*cells, row[3]]).rstrip())
    if problems:
        print(f"\n{len(problems)} problem{'s' if len(problems) > 1 else ''}:")
    for problem in problems:
        print(f"  - {problem}")


def _offers(host: PluginHost, info: PluginInfo) -> str:
    offers = [
        f"{each.kind} {each.id}{' (default)' if each.spec.default else ''}"
        for each in host.components()
        if each.plugin == info.name
    ]
    if any(hook not in REGISTRATION_HOOKS for hook in info.hooks):
        offers.append("observer")
    return ", ".join(offers)


def _record(host: PluginHost, problems: list[str]) -> "JSONObject":
    return {"plugins": [_plugin_record(host, info) for info in host.plugins], "problems": problems}


def _plugin_record(host: PluginHost, info: PluginInfo) -> "JSONObject":
    return {
        "name": info.name,
        "distribution": info.distribution,
        "version": info.version,
        "value": info.value,
        "group": info.group,
        "status": info.status,
        "error": None if info.error is None else str(info.error),
        "seconds": round(info.seconds, 4),
        "hooks": list(info.hooks),
        "components": [
            {
                "kind": each.kind,
                "id": each.id,
                "summary": each.spec.summary,
                "extra": each.spec.extra,
                "needs": list(each.spec.needs),
                "default": each.spec.default,
                "roles": list(each.spec.roles) if isinstance(each.spec, BackendSpec) else [],
            }
            for each in host.components()
            if each.plugin == info.name
        ],
    }
