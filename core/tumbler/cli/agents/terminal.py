"""A person's session at the terminal: messages, approvals, interruptions, and moving between conversations."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Final

from tumbler.cli.agents.holding import Held, Turn
from tumbler.cli.agents.interrupting import Interruptions
from tumbler.cli.agents.keeping import About, KeptConversation
from tumbler.cli.agents.prompting import Prompter
from tumbler.cli.agents.screen import Screen
from tumbler.cli.agents.talking import Party, Talk, opened_talk
from tumbler.contracts.conversation import ApprovalNeeded, Done
from tumbler.errors import TumblerError
from tumbler.sandboxes.background import BackgroundLoop

__all__ = ["Terminal"]

_OWN: Final = {
    "resume": "Go on with an earlier conversation: /resume NAME, or /resume for their names.",
    "quit": "Leave; Ctrl-D does, too.",
}
_QUESTION: Final = "Do it? [y]es, [n]o, [a]lways this tool, or say what to do instead: "


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
        self._interruptions = Interruptions()

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
                        with self._interruptions.caught():
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
                text = self._interruptions.read(self._prompter.read)
            except EOFError:
                self._screen.say("")
                raise _Left from None
            except KeyboardInterrupt:
                self._screen.say("")
                if self._prompter.begun:  # only what was typed is given up
                    self._interruptions.over()
                    continue
                if self._interruptions.again():
                    raise _Left from None
                self._screen.say("Ctrl-C once more leaves; so do Ctrl-D and /quit.", "dim")
            else:
                self._interruptions.over()
                return text

    def _send(self, talk: Talk, text: str) -> None:
        """Send a message and show what comes of it."""
        command = text.removeprefix("/").split(" ")[0] if text.startswith("/") else ""
        talk.said(text, command=command in talk.conversation.commands)
        self._screen.resume()
        turn = Turn(self._loop, talk.conversation, text, keep=talk.keep)
        done = self._follow(talk, turn)
        if command == "help":
            self._screen.say("\n".join(f"/{name}  {said}" for name, said in _OWN.items()))
        if done.reason == "failed" and (advice := self._party.mind.advice(done.text)):
            self._screen.say(advice, "yellow")

    def _follow(self, talk: Talk, turn: Turn) -> Done:
        """Show what happens up to the end; an interruption stops the agent, and its last events still come."""
        stopping = False
        for event in turn:
            if isinstance(event, Done):
                self._screen.show(event)
                self._interruptions.take()  # one that came too late, and was not meant for what follows
                self._interruptions.over()
                return event
            if event is None:
                self._screen.tick()
            else:
                self._screen.show(event)
            unanswered = isinstance(event, ApprovalNeeded) and not stopping and not self._attend(talk, event)
            if unanswered or self._interruptions.take():
                stopping = True
                self._interrupt(turn)
        raise AssertionError("a turn ends with `Done`")

    def _interrupt(self, turn: Turn) -> None:
        if self._interruptions.again():
            raise _Left
        turn.interrupt()

    def _attend(self, talk: Talk, event: ApprovalNeeded) -> bool:
        """Ask the person about a call that waits for that; tell whether there was an answer, and no interruption."""
        if event.name in self._always:
            self._decide(talk, event.id, allowed=True)
            return True
        self._screen.request(event, self._before(event))
        try:
            answer = self._interruptions.read(lambda: self._prompter.answer(_QUESTION))
        except KeyboardInterrupt:
            self._screen.say("")
            return False
        except EOFError:
            self._screen.say("")
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
        return True

    def _decide(self, talk: Talk, identity: int, *, allowed: bool, reason: str = "") -> None:
        async def decide() -> bool:
            return talk.conversation.decide(identity, allowed=allowed, reason=reason)

        if not self._loop.run(decide()):
            self._screen.say("That call waits for an answer no more.", "yellow")
        self._screen.resume()

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
