"""`tumbler agent`: speak with an agent that works in a folder of this machine, in a sandbox."""

import argparse
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--agent", metavar="NAME", help="an agent, or a table under [agents]; default: iflow")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the agent")
    parser.add_argument("--registry", type=Path, help="default: registry.toml, if any")
    _add_model(parser.add_argument_group("model", "one of --upstream, --model-folder and --run"))
    _add_place(parser.add_argument_group("place"))
    _add_manner(parser)


def run(args: argparse.Namespace) -> int:
    """Carry out the command."""
    from tumbler.cli.agents.session import run_session

    return run_session(args)


def _add_model(model: argparse._ArgumentGroup) -> None:
    model.add_argument("--upstream", metavar="URL", help="a server of chat completions, or a table under [backends]")
    model.add_argument("--model", metavar="NAME", help="the model's name at the server")
    model.add_argument("--api-key-env", metavar="VAR", help="the variable that holds the server's key")
    model.add_argument("--context-length", type=_positive, metavar="N", help="the served model's window, in tokens")
    model.add_argument("--model-folder", type=Path, metavar="PATH", help="a local model in Hugging Face format")
    model.add_argument("--inference", metavar="NAME", help="what serves a local model; default: transformers")
    model.add_argument("--inference-set", action="append", default=[], metavar="KEY=VALUE", help="a setting of it")
    model.add_argument(
        "--run", dest="run_folder", type=Path, metavar="FOLDER", help="what a run has trained, as it was trained"
    )
    model.add_argument("--checkpoint", metavar="NAME", help="of the run; default: the newest")
    model.add_argument("--anyway", action="store_true", help="also with other settings than the run trained with")
    model.add_argument("--max-tokens", type=_positive, metavar="N", help="of one reply")
    model.add_argument("--temperature", type=float, help="of a local model; default: 0.7, or the run's")
    model.add_argument("--seed", type=int, default=0, help="of a local model's sampling; default: %(default)s")


def _add_place(place: argparse._ArgumentGroup) -> None:
    place.add_argument("--workdir", type=Path, metavar="DIR", help="the folder to work in; default: this one")
    place.add_argument("--sandbox", metavar="NAME", help="what makes the sandbox; default: bubblewrap")
    place.add_argument("--sandbox-set", action="append", default=[], metavar="KEY=VALUE", help="a setting of it")
    place.add_argument("--image", help="the sandbox's root file system, as the backend names it")
    place.add_argument("--network", choices=["none", "allowlist", "public"], help="default: none")
    place.add_argument("--allow", action="append", default=[], metavar="HOST", help="a host that may be reached")


def _add_manner(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resume",
        nargs="?",
        const="last",
        metavar="NAME",
        help="go on with a conversation; default: the last one here",
    )
    asking = parser.add_mutually_exclusive_group()
    asking.add_argument("--yes", action="store_true", help="approve every call that the settings would ask about")
    asking.add_argument("--ask", action="store_true", help="ask before the agent changes something (the default)")
    parser.add_argument(
        "--plan", action="store_true", help="begin in plan mode: only reading, until a plan is approved"
    )
    parser.add_argument("--turns", type=_positive, default=100, help="replies for one message; default: %(default)s")
    parser.add_argument("-p", "--prompt", metavar="TEXT", help="answer this one message and stop; - reads it")
    parser.add_argument("--json", action="store_true", help="with -p, print every event as a line of JSON")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value
