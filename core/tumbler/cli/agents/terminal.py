"""A person's session at the terminal: messages, approvals, interruptions, and moving between conversations."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from tumbler.cli.agents.holding import Held, Turn
from tumbler.cli.agents.keeping import About, KeptConversation
from tumbler.cli.agents.prompting import Prompter
from tumbler.cli.agents.screen import Screen
from tumbler.cli.agents.talking import Party, Talk, opened_talk
from tumbler.contracts.conversation import ApprovalNeeded, Done, Event
from tumbler.errors import TumblerError
from tumbler.sandboxes.background import BackgroundLoop

__all__ = ["Terminal"]

_OWN: Final = {
    "resume": "Go on with an earlier conversation: /resume NAME, or /resume for their names.",
    "quit": "Leave; Ctrl-D does, too.",
}
_QUESTION: Final = "Do it? [y]es, [n]o, [a]lways this tool, or say what to do instead: "
_TWICE_S: Final = 2.0
"""Two interruptions so near to each other leave."""


class _Left(Exception):
    """The person leaves."""


class Terminal:
    """One session, in one folder."""

    def __init__(self, loop: BackgroundLoop, party: Party, about: About, screen: Screen) -> None:
        """Say nothing yet."""
        self._loop = loop
        self._party = party
        self._about = about
        self._screen = screen
        self._prompter = Prompter(party.shelves.history, self._commands)
        self._talk: Talk | None = None
        self._always: set[str] = set()
        """Tools that the person has approved for the whole session."""
        self._interrupted = 0.0

    def run(self, kept: KeptConversation | None) -> None:
        """Converse until the person leaves; with `kept`, go on there first."""
        with self._prompter.ready():
            following: KeptConversation | None = kept
            while True:
                with ExitStack() as stack:
                    talk = self._talk = stack.enter_context(
                        Held(self._loop, opened_talk(self._party, self._about, following))
                    )
                    if following is not None:
                        self._screen.say(f"Going on with {following.name}", "bold")
                        self._screen.recall(talk.conversation.spoken)
                    try:
                        following = self._converse(talk)
                    except _Left:
                        self._farewell(talk)
                        return

    def _converse(self, talk: Talk) -> KeptConversation:
        """Take messages until another conversation is asked for, and return that one."""
        while True:
            text = self._read()
            name, _, argument = text.partition(" ")
            if name in ("/quit", "/exit"):
                raise _Left
            if name == "/resume":
                other = self._other(argument.strip(), talk)
                if other is not None:
                    return other
            elif text:
                self._send(talk, text)

    def _read(self) -> str:
        while True:
            try:
                return self._prompter.read()
            except EOFError:
                self._screen.say("")
                raise _Left from None
            except KeyboardInterrupt:
                self._screen.say("")
                self._note_interrupt()
                self._screen.say("Ctrl-C once more leaves; so do Ctrl-D and /quit.", "dim")

    def _note_interrupt(self) -> None:
        """Leave if the last interruption is not long ago."""
        now = time.monotonic()
        if now - self._interrupted < _TWICE_S:
            raise _Left
        self._interrupted = now

    def _send(self, talk: Talk, text: str) -> None:
        """Send a message and show what comes of it."""
        command = text.removeprefix("/").split(" ")[0] if text.startswith("/") else ""
        if command not in talk.conversation.commands:
            talk.said(text)
        turn = Turn(self._loop, talk.conversation, text, keep=talk.keep)
        done = self._follow(talk, turn)
        if command == "help":
            self._screen.say("\n".join(f"/{name}  {said}" for name, said in _OWN.items()))
        if done.reason == "failed" and (advice := self._party.mind.advice(done.text)):
            self._screen.say(advice, "yellow")

    def _follow(self, talk: Talk, turn: Turn) -> Done:
        """Show what happens up to the end; an interruption stops the agent, and its last events still come."""
        events = iter(turn)
        while True:
            try:
                event = next(events)
                if event is None:
                    self._screen.tick()
                elif isinstance(event, Done):
                    break
                else:
                    self._screen.show(event)
                    self._attend(talk, event)
            except KeyboardInterrupt:
                # The iterator has ended with that, and not what it goes over.
                events = iter(turn)
                self._interrupt(turn)
        self._screen.show(event)
        return event

    def _interrupt(self, turn: Turn) -> None:
        try:
            self._note_interrupt()
            turn.interrupt()
        except KeyboardInterrupt:
            raise _Left from None

    def _attend(self, talk: Talk, event: Event) -> None:
        """Ask the person where a call waits for that."""
        if not isinstance(event, ApprovalNeeded):
            return
        if event.name in self._always:
            self._decide(talk, event.id, allowed=True)
            return
        self._screen.request(event, self._before(event))
        try:
            answer = self._prompter.answer(_QUESTION)
        except (EOFError, KeyboardInterrupt) as left:
            self._screen.say("")
            if isinstance(left, KeyboardInterrupt):
                raise
            answer = "n"
        match answer.lower():
            case "y" | "yes":
                allowed, reason = True, ""
            case "a" | "always":
                self._always.add(event.name)
                allowed, reason = True, ""
            case "" | "n" | "no":
                allowed, reason = False, ""
            case _:
                allowed, reason = False, answer
        self._decide(talk, event.id, allowed=allowed, reason=reason)

    def _decide(self, talk: Talk, identity: int, *, allowed: bool, reason: str = "") -> None:
        async def decide() -> bool:
            return talk.conversation.decide(identity, allowed=allowed, reason=reason)

        self._loop.run(decide())

    def _before(self, event: ApprovalNeeded) -> str | None:
        """Return the file that a call is about, as it is now; None where there is none that can be shown."""
        path = event.arguments.get("path")
        if not isinstance(path, str) or not path:
            return None
        try:
            return self._loop.run(self._party.place.sandbox.read(path)).decode()
        except (OSError, ValueError, TumblerError):
            return None

    def _other(self, wanted: str, talk: Talk) -> KeptConversation | None:
        """Open the conversation that the person wants to go on with; None where that cannot be."""
        shelves, folder = self._party.shelves, self._party.folder
        if not wanted:
            self._screen.say(shelves.described(folder))
            return None
        try:
            found = shelves.find(wanted, folder)
        except TumblerError as error:
            self._screen.say(str(error), "red")
            return None
        if found.about.folder != str(folder):
            found.close()
            self._screen.say(
                f"{found.name} is about {found.about.folder}: leave, and tumbler agent --resume {found.name}"
            )
            return None
        return found

    def _farewell(self, talk: Talk) -> None:
        if talk.kept is not None:
            self._screen.say(f"Kept as {talk.kept.name}: tumbler agent --resume {talk.kept.name}", "dim")

    def _commands(self) -> Sequence[str]:
        known = () if self._talk is None else tuple(self._talk.conversation.commands)
        return (*known, *_OWN)
