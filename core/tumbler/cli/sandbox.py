"""`tumbler sandbox`: serve, ls, exec, shell, cp, rm, reap, doctor; knows no backend by its class."""

import argparse
import asyncio
from collections.abc import Mapping, Sequence
from typing import Final

__all__ = ["add_arguments", "run"]

_SUMMARIES: Final = {
    "serve": "put a backend behind HTTP",
    "ls": "list the living sandboxes",
    "exec": "run a command in a sandbox, a new one if none is named",
    "shell": "open a shell in a sandbox, a new one if none is named",
    "cp": "copy files into a sandbox or out of it",
    "rm": "delete sandboxes",
    "reap": "remove what is past its time and what dead owners left",
    "doctor": "tell which backends work here, what they can do, and how to mend them",
}


class _Parser(argparse.ArgumentParser):
    """A parser that takes all behind `--` as the command to run."""

    def parse_known_args(  # type: ignore[override]  # the base class's overloads differ in the namespace only
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse what is before the first `--`, and keep the rest as `command`."""
        given = list(args or ())
        place = given.index("--") if "--" in given else len(given)
        parsed, unknown = super().parse_known_args(given[:place], namespace or argparse.Namespace())
        parsed.command = given[place + 1 :]
        return parsed, unknown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the commands and their arguments."""
    from tumbler.cli.sandboxes.reach import add_backend_options

    commands = parser.add_subparsers(metavar="COMMAND", dest="action", required=True, parser_class=_Parser)
    made = {}
    for name, summary in _SUMMARIES.items():
        command = commands.add_parser(
            name, help=summary, description=f"{summary[0].upper()}{summary[1:]}.", allow_abbrev=False
        )
        command.set_defaults(refuse=command.error)
        made[name] = command
        if name not in ("serve", "doctor"):
            add_backend_options(command)
    _add_serve(made["serve"])
    _add_running(made["exec"], made["shell"])
    _add_keeping(made)


def run(args: argparse.Namespace) -> int:
    """Carry out the command; `exec` and `shell` return the exit code of what they ran."""
    from tumbler.cli.sandboxes import copying, examining, keeping, running, serving

    if args.command and args.action not in ("exec", "shell"):
        args.refuse("takes no command behind --")
    if args.action == "exec" and not args.command:
        args.refuse("write the command behind --, such as: -- echo hello")
    actions = {
        "serve": serving.serve,
        "ls": keeping.listing,
        "exec": running.execute,
        "shell": running.shell,
        "cp": copying.copy,
        "rm": keeping.remove,
        "reap": keeping.reap,
        "doctor": examining.doctor,
    }
    return asyncio.run(actions[args.action](args))


def _add_serve(command: argparse.ArgumentParser) -> None:
    from pathlib import Path

    from tumbler.cli.sandboxes.reach import TOKEN_VARIABLE

    command.epilog = f"With {TOKEN_VARIABLE} set, clients need that token. More tenants: `tenants` of the service."
    command.add_argument("--backend", required=True, metavar="NAME", help="installed, or a table under [backends]")
    command.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the backend")
    command.add_argument("--owner", help="a name under which a restarted service finds its sandboxes again")
    command.add_argument("--service", metavar="NAME", help="default: the one that is installed")
    command.add_argument(
        "--service-set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the service"
    )
    command.add_argument("--host", help="the address to listen on; default: this machine only")
    command.add_argument("--port", type=int, help="0 takes a free one")
    command.add_argument(
        "--allow-path",
        action="append",
        default=[],
        metavar="FOLDER",
        help="clients may name images and mounts below it",
    )
    command.add_argument("--registry", type=Path, help="default: registry.toml, if any")


def _add_running(execute: argparse.ArgumentParser, shell: argparse.ArgumentParser) -> None:
    from tumbler.cli.sandboxes.specs import add_spec_options, pair

    for command in (execute, shell):
        command.add_argument("sandbox", nargs="?", help="the id or name of a living sandbox; default: a new one")
        command.add_argument("--cwd", help="where to start, relative to the working directory")
        command.add_argument(
            "--keep", action="store_true", help="leave a new sandbox to a service, or to an owner who has a name"
        )
        add_spec_options(command)
    execute.add_argument("--env", action="append", default=[], type=pair, metavar="KEY=VALUE")
    execute.add_argument("--timeout", type=float, help="seconds after which the command is killed")
    execute.add_argument("-i", "--interactive", action="store_true", help="pass the keyboard's input on")
    for command, words in ((execute, "-- COMMAND…"), (shell, "[-- COMMAND…]")):
        usage = command.format_usage().removeprefix("usage: ").rstrip()
        command.usage = f"{usage} {words}".replace("%", "%%")


def _add_keeping(made: Mapping[str, argparse.ArgumentParser]) -> None:
    from pathlib import Path

    from tumbler.cli.sandboxes.specs import pair

    made["ls"].add_argument("--label", action="append", default=[], type=pair, metavar="KEY=VALUE")
    made["ls"].add_argument("--json", action="store_true", help="print JSON")
    made["cp"].add_argument("source", help="a path, or SANDBOX:PATH")
    made["cp"].add_argument("target", help="a path, or SANDBOX:PATH")
    made["rm"].add_argument("sandboxes", nargs="*", metavar="SANDBOX", help="ids or names")
    made["rm"].add_argument("--all", action="store_true", help="all that are yours")
    made["doctor"].add_argument("--backend", metavar="NAME", help="only this one")
    made["doctor"].add_argument("--json", action="store_true", help="print JSON")
    made["doctor"].add_argument("--registry", type=Path, help="default: registry.toml, if any")
