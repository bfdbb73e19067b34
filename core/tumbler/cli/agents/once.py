"""One message without a person: the answer, or every event, on standard output."""

import json
import sys
from dataclasses import asdict

from tumbler.cli.agents.holding import Held, Turn
from tumbler.cli.agents.interrupting import Interruptions
from tumbler.cli.agents.keeping import About, KeptConversation
from tumbler.cli.agents.talking import Party, opened_talk
from tumbler.cli.agents.wording import cleaned, ending
from tumbler.contracts.conversation import CallEnded, Done, Event, Notice
from tumbler.sandboxes.background import BackgroundLoop

__all__ = ["answer_once"]

_INTERRUPTED = 130
_NOBODY = "there is nobody to ask"


def answer_once(
    loop: BackgroundLoop, party: Party, about: About, text: str, *, kept: KeptConversation | None, as_json: bool
) -> int:
    """Send the message and print what comes of it; return 0 where the agent finished, 130 where it was interrupted."""
    refused = 0
    done = Done(reason="failed")
    interruptions = Interruptions()
    with Held(loop, opened_talk(party, about, kept)) as talk:
        talk.said(text)
        turn = Turn(loop, talk.conversation, text, keep=talk.keep)
        with interruptions.caught():
            for event in turn:
                if interruptions.take():
                    if interruptions.again():
                        raise KeyboardInterrupt
                    turn.interrupt()
                if event is None:
                    continue
                if as_json:
                    print(json.dumps(_record(event)), flush=True)
                elif isinstance(event, Notice):
                    _tell(event.text)
                if isinstance(event, CallEnded) and event.errored and _NOBODY in event.text:
                    refused += 1
                if isinstance(event, Done):
                    done = event
        name = None if talk.kept is None else talk.kept.name
    _report(party, done, refused, name, as_json=as_json)
    if done.reason == "interrupted":
        return _INTERRUPTED
    return 0 if done.reason == "finished" else 1


def _record(event: Event) -> dict[str, object]:
    """Return an event as JSON: its kind, and its fields."""
    name = type(event).__name__
    kind = "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name).removeprefix("_")
    return {"type": kind, **asdict(event)}


def _report(party: Party, done: Done, refused: int, name: str | None, *, as_json: bool) -> None:
    """Print the answer, and beside it what the caller should know."""
    if not as_json and done.reason == "finished":
        print(cleaned(done.text) if sys.stdout.isatty() else done.text)
    told = [ending(done), party.mind.advice(done.text) if done.reason == "failed" else ""]
    if refused:
        told.append(f"{refused} call(s) were refused, since nobody was there to approve them; --yes approves all")
    if name is not None:
        told.append(f"kept as {name}: tumbler agent --resume {name}")
    for each in told:
        if each:
            _tell(each)


def _tell(text: str) -> None:
    print(f"tumbler: {cleaned(text)}", file=sys.stderr)
