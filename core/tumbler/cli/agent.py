"""`tumbler agent`: speak with an agent that works in a folder of this machine, in a sandbox."""

import argparse
import math
from pathlib import Path

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "--agent",
        metavar="NAME",
        help="one that is installed, or a table under [agents]; default: the agent that `tumbler plugins` marks so",
    )
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the agent")
    parser.add_argument(
        "--registry",
        type=Path,
        metavar="FILE",
        help="the registry.toml whose tables may be named; it may start programs on this machine; default: none",
    )
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
    model.add_argument("--api-key-env", metavar="VAR", help="the variable that holds the server's key; default: no key")
    model.add_argument(
        "--context-length",
        type=_positive,
        metavar="N",
        help="the served model's window, in tokens; default: what the table says, or 32768",
    )
    model.add_argument("--model-folder", type=Path, metavar="PATH", help="a local model in Hugging Face format")
    model.add_argument("--inference", metavar="NAME", help="what serves a local model; default: as for --agent")
    model.add_argument("--inference-set", action="append", default=[], metavar="KEY=VALUE", help="a setting of it")
    model.add_argument(
        "--run", dest="run_folder", type=Path, metavar="FOLDER", help="what a run has trained, as it was trained"
    )
    model.add_argument("--checkpoint", metavar="NAME", help="of the run; default: the newest")
    model.add_argument("--anyway", action="store_true", help="also with other settings than the run trained with")
    model.add_argument(
        "--max-tokens",
        type=_positive,
        metavar="N",
        help="of one reply; default: the server's, the run's, or a quarter of a local model's window up to 4096",
    )
    model.add_argument(
        "--temperature",
        type=_temperature,
        metavar="T",
        help="default: the server's, the run's, or 0.7 for a local model",
    )
    model.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of a local model's sampling; default: %(default)s"
    )


def _add_place(place: argparse._ArgumentGroup) -> None:
    place.add_argument("--workdir", type=Path, metavar="DIR", help="the folder to work in; default: this one")
    place.add_argument("--sandbox", metavar="NAME", help="what makes the sandbox; default: as for --agent")
    place.add_argument("--sandbox-set", action="append", default=[], metavar="KEY=VALUE", help="a setting of it")
    place.add_argument(
        "--image", help="the sandbox's root file system, as the backend names it; default: the backend's own"
    )
    place.add_argument(
        "--network", choices=["none", "allowlist", "public"], help="default: none, or allowlist where --allow is given"
    )
    place.add_argument("--allow", action="append", default=[], metavar="HOST", help="a host that may be reached")


def _add_manner(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resume",
        nargs="?",
        const="last",
        metavar="NAME",
        help="go on with a conversation; default: the last one here",
    )
    parser.add_argument(
        "--yes",
        action="store_true",
        help="approve every call that would be asked about; default: ask, and refuse where nobody is there (-p)",
    )
    parser.add_argument(
        "--plan", action="store_true", help="begin in plan mode: only reading, until a plan is approved"
    )
    parser.add_argument(
        "--turns", type=_positive, default=100, metavar="N", help="replies for one message; default: %(default)s"
    )
    parser.add_argument("-p", "--prompt", metavar="TEXT", help="answer this one message and stop; - reads it")
    parser.add_argument("--json", action="store_true", help="with -p, print every event as a line of JSON")


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number above 0")
    return int(text)


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 0 on")
    return value
