"""From the options of `tumbler agent` to a session: who, with which model, where, in what manner."""

import argparse
import contextlib
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Any, Final, Literal

from tumbler.cli.agents.choosing import Chosen, choose, of_run, trained
from tumbler.cli.agents.hearing import heard, listen
from tumbler.cli.agents.holding import Held
from tumbler.cli.agents.keeping import About, KeptConversation, Shelves
from tumbler.cli.agents.models import ModelOptions, opened_mind
from tumbler.cli.agents.place import Site, opened_place
from tumbler.cli.agents.talking import Manner, Party
from tumbler.cli.loading import load_folder
from tumbler.cli.sandboxes.reach import Shelf
from tumbler.contracts.sandbox import NetworkPolicy
from tumbler.contracts.values import JSONObject
from tumbler.errors import RunError
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun
from tumbler.sandboxes.background import BackgroundLoop

__all__ = ["run_session"]

_TERMINATED: Final = 143


@dataclass(frozen=True, kw_only=True)
class _Plan:
    """What a session is made of, nothing of it open yet."""

    shelf: Shelf
    options: ModelOptions
    chosen: Chosen
    resolved: ResolvedRun | None
    site: Site
    manner: Manner
    warnings: Sequence[str]


def run_session(args: argparse.Namespace) -> int:
    """Converse at the terminal, or answer one message; return the exit code."""
    prompt = _prompt(args)
    shelves = Shelves.of_user()
    kept = None if args.resume is None else shelves.find(args.resume, _folder(args.workdir))
    try:
        plan = _plan(args, kept, at_terminal=prompt is None)
        loop = BackgroundLoop()
        try:
            with _terminable(), contextlib.ExitStack() as stack:
                return _run(args, plan, shelves, kept, prompt, loop, stack)
        finally:
            loop.stop()
    finally:
        if kept is not None:
            kept.close()


def _run(
    args: argparse.Namespace,
    plan: _Plan,
    shelves: Shelves,
    kept: KeptConversation | None,
    prompt: str | None,
    loop: BackgroundLoop,
    stack: contextlib.ExitStack,
) -> int:
    for warning in plan.warnings:
        print(f"tumbler: warning: {warning}", file=sys.stderr)
    party = _party(plan, shelves, loop, stack, quiet=prompt is not None)
    about = About(
        title="",
        folder=str(plan.site.folder),
        agent=_named(plan.chosen),
        model=party.mind.name,
        begun=time.strftime("%Y-%m-%d %H:%M:%S"),
        options=_recorded(plan.options),
    )
    if prompt is None:
        _converse(loop, party, about, kept)
        return 0
    from tumbler.cli.agents.once import answer_once

    if not args.json:
        print(f"tumbler: {'. '.join(party.place.touches)}.", file=sys.stderr)
    return answer_once(loop, party, about, prompt, kept=kept, as_json=args.json)


def _party(plan: _Plan, shelves: Shelves, loop: BackgroundLoop, stack: contextlib.ExitStack, *, quiet: bool) -> Party:
    """Open sandbox and model."""
    place = stack.enter_context(Held(loop, opened_place(plan.shelf, plan.site)))
    if plan.options.upstream is None and not quiet:
        print("Loading the model …", flush=True)
    mind = stack.enter_context(Held(loop, opened_mind(plan.shelf, plan.options, plan.chosen, plan.resolved)))
    return Party(
        chosen=plan.chosen,
        host=plan.shelf.host,
        mind=mind,
        place=place,
        folder=plan.site.folder,
        shelves=shelves,
        manner=plan.manner,
    )


def _converse(loop: BackgroundLoop, party: Party, about: About, kept: KeptConversation | None) -> None:
    from rich.console import Console

    from tumbler.cli.agents.screen import Screen
    from tumbler.cli.agents.terminal import Terminal

    mind, manner = party.mind, party.manner
    screen = Screen(Console(highlight=False), window=mind.window, window_source=mind.window_source)
    asks = (
        "It does what it likes there without asking" if manner.asking == "yes" else "It asks before it changes anything"
    )
    planning = ["Plan mode: it only reads until you have approved its plan"] if manner.planning else []
    screen.opening(
        [
            f"{party.chosen.agent.label} · {mind.name} · window of {mind.window:,} tokens ({mind.window_source})",
            *(f"{line}." for line in (*party.place.touches, asks, *planning)),
            "/help lists the commands, Ctrl-C interrupts, Ctrl-D leaves.",
        ]
    )
    Terminal(loop, party, about, screen).run(kept)


def _plan(args: argparse.Namespace, kept: KeptConversation | None, *, at_terminal: bool) -> _Plan:
    about = None if kept is None else kept.about
    options = _options(args, {} if about is None else about.options)
    folder = _folder(args.workdir) if args.workdir is not None or about is None else Path(about.folder)
    shelf, chosen, resolved, warnings = _chosen(args, options)
    chosen.build_agent(shelf.host)  # to say at once that it cannot converse
    if about is not None and about.agent != _named(chosen):
        warnings = [*warnings, f"the conversation was held with {about.agent}, and this is {_named(chosen)}"]
    asking: Literal["person", "yes", "nobody"] = "yes" if args.yes else "person" if at_terminal else "nobody"
    if args.allow and args.network not in (None, "allowlist"):
        raise RunError(f"--allow names single hosts, which --network {args.network} knows nothing of; leave one out")
    mode: Literal["none", "allowlist", "public"] = args.network or ("allowlist" if args.allow else "none")
    return _Plan(
        shelf=shelf,
        options=options,
        chosen=chosen,
        resolved=resolved,
        site=Site(
            backend=args.sandbox,
            folder=folder,
            network=NetworkPolicy(mode=mode, hosts=tuple(args.allow)),
            image=args.image,
            settings=args.sandbox_set,
        ),
        manner=Manner(asking=asking, planning=args.plan, turns=args.turns, seed=args.seed),
        warnings=warnings,
    )


def _chosen(args: argparse.Namespace, options: ModelOptions) -> tuple[Shelf, Chosen, ResolvedRun | None, Sequence[str]]:
    """Return the agent; with a run, its own one, and warnings where another is wanted."""
    if options.run is None:
        shelf = _shelf(args.registry)
        return shelf, choose(shelf, args.agent, args.set), None, ()
    with contextlib.redirect_stdout(sys.stderr):  # standard output is for the answer
        resolved, host = load_folder(options.run / "run.json")
    own = of_run(resolved)
    shelf = _shelf(args.registry)
    wanted = choose(shelf, args.agent, args.set) if args.agent or args.set else None
    found = trained(options.run, own, wanted, anyway=args.anyway)
    warnings = [f"not as it was trained: {each}" for each in found]
    return Shelf(host=host, registry=shelf.registry), wanted or own, resolved, warnings


def _shelf(registry: Path | None) -> Shelf:
    """Return what is installed, and a registry only if it is named.

    A registry may start programs on this machine, and agents are let work in folders that others have made: their
    registry.toml must not be read unasked.
    """
    return Shelf(host=PluginHost.load()) if registry is None else Shelf.of(registry)


def _named(chosen: Chosen) -> str:
    return ", ".join(f"{each.id} {each.settings_hash}" for each in chosen.components)


def _options(args: argparse.Namespace, before: JSONObject) -> ModelOptions:
    """Return what is said of the model; where nothing is, what the conversation had before."""
    named = [name for name in ("upstream", "model_folder", "run_folder") if getattr(args, name) is not None]
    if len(named) > 1:
        listed = " and ".join(
            f"--{name.removesuffix('_folder') if name == 'run_folder' else name.replace('_', '-')}" for name in named
        )
        raise RunError(f"{listed} exclude each other: one model speaks")
    known: dict[str, Any] = {} if named else dict(before)
    given = {
        "upstream": args.upstream,
        "model": args.model,
        "key_variable": args.api_key_env,
        "context_length": args.context_length,
        "folder": args.model_folder,
        "inference": args.inference,
        "inference_settings": tuple(args.inference_set) or None,
        "run": args.run_folder,
        "checkpoint": args.checkpoint,
        "max_tokens": args.max_tokens,
        "temperature": args.temperature,
    }
    known |= {key: value for key, value in given.items() if value is not None}
    for key in ("folder", "run"):
        known[key] = None if known.get(key) is None else Path(known[key]).expanduser().resolve()
    if known.get("upstream") is known.get("folder") is known.get("run") is None:
        raise RunError(
            "say which model speaks:\n"
            "  --upstream http://127.0.0.1:8000/v1 --model NAME   a server of chat completions\n"
            "  --model-folder PATH                                a local model in Hugging Face format\n"
            "  --run runs/FOLDER                                  what a run has trained"
        )
    return ModelOptions(**known)


def _recorded(options: ModelOptions) -> JSONObject:
    """Return the options as JSON, without what was left out."""
    found = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()}
    return {key: value for key, value in found.items() if value not in (None, ())}


def _folder(given: Path | None) -> Path:
    return (given or Path()).expanduser().resolve()


def _prompt(args: argparse.Namespace) -> str | None:
    """Return the message of a session without a person; None for one with a person."""
    if args.json and args.prompt is None:
        raise RunError("--json prints the events of one message: give it with -p")
    if args.prompt is None:
        if not sys.stdin.isatty():
            raise RunError("standard input is no terminal; give the message with -p TEXT, or with -p - to read it")
        return None
    listen()
    text = heard(sys.stdin.read() if args.prompt == "-" else str(args.prompt))
    if not text.strip():
        raise RunError("the message is empty")
    return text.strip()


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the session as leaving does, the sandbox with it."""

    def stop(_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(_TERMINATED)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
