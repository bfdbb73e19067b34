"""`tumbler gateway`: serve a model to agents that are started by hand, and record what they say; knows no server."""

import argparse

__all__ = ["add_arguments", "run"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    from pathlib import Path

    parser.set_defaults(refuse=parser.error)
    model = parser.add_argument_group("who answers")
    source = model.add_mutually_exclusive_group(required=True)
    source.add_argument("--upstream", metavar="URL", help="a server of OpenAI's chat API, such as http://host:8000/v1")
    source.add_argument("--model-folder", type=Path, metavar="PATH", help="a model in Hugging Face's format")
    model.add_argument("--model", metavar="NAME", help="the model's name at the server")
    model.add_argument("--api-key-env", metavar="VAR", help="the variable that holds the server's key")
    model.add_argument("--context-length", type=int, metavar="N", help="of the server's model; default: 32768")
    model.add_argument(
        "--inference", metavar="NAME", help="what runs the folder; default: the one that `tumbler plugins` marks so"
    )
    model.add_argument("--temperature", type=float, help="of the folder's model; default: 1, and 0 is greedy")
    model.add_argument("--max-tokens", type=int, default=4096, metavar="N", help="of a reply; default: %(default)s")
    served = parser.add_argument_group("how it is served")
    served.add_argument("--folder", type=Path, required=True, help="where the sessions are kept")
    served.add_argument("--session", action="append", metavar="NAME", help="one to open at once; default: main")
    served.add_argument("--port", type=int, help="of 127.0.0.1; 0 takes a free one")
    served.add_argument(
        "--admin-env", metavar="VAR", help="the variable that holds the secret for opening sessions at /sessions"
    )
    calls = served.add_mutually_exclusive_group()
    calls.add_argument("--record", type=Path, metavar="PATH", help="append the calls of all sessions to this file")
    calls.add_argument("--replay", type=Path, metavar="PATH", help="answer from the calls in this file")
    served.add_argument("--gateway", metavar="NAME", help="default: the one that is installed")
    served.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="such as gateway.dialect=plain or inference.…"
    )
    served.add_argument("--registry", type=Path, help="default: registry.toml, if any")


def run(args: argparse.Namespace) -> int:
    """Carry out the command."""
    import asyncio

    from tumbler.cli.serving_models import serve

    for option, needed in _BELONGING:
        if getattr(args, option) is not None and getattr(args, needed) is None:
            args.refuse(f"--{option.replace('_', '-')} goes with --{needed.replace('_', '-')}")
    if args.upstream is not None and args.model is None:
        args.refuse("--upstream needs --model, the model's name at the server")
    asyncio.run(serve(args))
    return 0


_BELONGING = (
    ("model", "upstream"),
    ("api_key_env", "upstream"),
    ("context_length", "upstream"),
    ("inference", "model_folder"),
    ("temperature", "model_folder"),
)
"""Option → the one that it says more of."""
