"""`tumbler schema`: the JSON Schema of registry.toml, with the settings of what is installed."""

import argparse
import json
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--output", type=Path, metavar="FILE", help="write it there instead of printing it")


def run(args: argparse.Namespace) -> int:
    """Print the schema, or write it to a file."""
    from tumbler.plugins import PluginHost
    from tumbler.registry import json_schema

    text = json.dumps(json_schema(PluginHost.load()), indent=2, ensure_ascii=False)
    if args.output is None:
        print(text)
    else:
        args.output.write_text(f"{text}\n", encoding="utf-8")
        print(f"wrote {args.output}")
    return 0
