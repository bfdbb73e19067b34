"""The `tumbler` command: chooses a command and turns errors into exit codes; knows no command's work."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType

from tumbler import __version__
from tumbler.errors import TumblerError

__all__ = ["COMMANDS", "main"]

COMMANDS = {
    "run": "run, resume or repeat a run of registry.toml",
    "check": "check a registry file and list every problem in it",
    "agent": "speak with an agent that works in a folder of yours, in a sandbox",
    "plugins": "list the plugins, or explain why one is or is not there",
    "schema": "print the JSON Schema of registry.toml, for editors",
    "eval": "evaluate a model or a finished run",
    "export": "write a run's trajectories as ATIF, ChatML or ShareGPT",
    "import-atif": "turn ATIF documents into a file of trajectories",
    "report": "write the report of a finished run",
    "gateway": "serve a model to any agent through the common chat APIs, and record it",
    "sandbox": "serve sandboxes, run commands in them, and list, copy, remove and check them",
    "doctor": "tell what works on this machine, and how to get the rest",
    "new-plugin": "write a plugin package that passes its tests",
}
"""Command → summary. The command `new-plugin` lives in the module `tumbler.cli.new_plugin`."""

_INTERRUPTED = 130
_OUTPUT_CLOSED = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0, 1 for a failure, 130 for an interruption.

    `arguments` are those after the program's name; None takes the process's own. Wrong usage exits
    with 2, as argparse does.
    """
    _open_closed_streams()
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser, command = _parser(given)
    parsed = parser.parse_args(given)
    if command is None:
        parser.print_help()
        return 0
    try:
        return _run(command.run, parsed)
    except KeyboardInterrupt as interruption:
        print(f"tumbler: {str(interruption) or 'interrupted'}", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read the output (`tumbler plugins | head`) has gone; nor may the exit flush to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _OUTPUT_CLOSED


def _open_closed_streams() -> None:
    """Let nothing come of streams that the caller has closed: the next file would get their numbers otherwise."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode, encoding="utf-8"))  # noqa: SIM115  # until the end


def _run(command: Callable[[argparse.Namespace], int], parsed: argparse.Namespace) -> int:
    try:
        code = command(parsed)
        sys.stdout.flush()
        return code
    except TumblerError as error:
        if parsed.debug:
            raise
        # Notes of one line are advice; longer ones are tracebacks of other processes, which `--debug` shows.
        advice = [note for note in getattr(error, "__notes__", ()) if "\n" not in note]
        print("\n".join([f"tumbler: {error}", *advice]), file=sys.stderr)
        return 1


def _parser(given: Sequence[str]) -> tuple[argparse.ArgumentParser, ModuleType | None]:
    """Return the parser, and the module of the chosen command: the only one that is imported."""
    parser = argparse.ArgumentParser(prog="tumbler", description="Train and run LLM agents.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"tumbler {__version__}")
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command")
    chosen = next((each for each in given if not each.startswith("-")), None)
    module = None
    for name, summary in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )
        command.add_argument(
            "--debug", action="store_true", default=argparse.SUPPRESS, help="show the traceback of an error"
        )
        if name == chosen:
            module = import_module(f"tumbler.cli.{name.replace('-', '_')}")
            module.add_arguments(command)
    return parser, module


if __name__ == "__main__":
    sys.exit(main())
