"""The twin's shell: runs lines of its language over a folder in memory, as bash would."""

import re
from collections.abc import Mapping
from dataclasses import replace

from tumbler.contracts.values import JSON
from tumbler.errors import ContractError
from tumbler_envs.trail.layout import Trail, pack
from tumbler_envs.trail.shell import Output, digest
from tumbler_envs.trail.twin.folder import Folder
from tumbler_envs.trail.twin.grammar import Command, Redirection, UnsupportedError, parse
from tumbler_envs.trail.twin.programs import PROGRAMS
from tumbler_envs.trail.words import CHOOSE, COMPUTE, KEYS, LABELS, NAMES, OPERATORS, OUTPUT, START, UNPACK, VALUE

__all__ = ["TwinShell"]

_WORDS = "|".join((*NAMES, *LABELS, *KEYS, *OPERATORS, START, OUTPUT, UNPACK, COMPUTE, CHOOSE, VALUE))
_NO_PROGRAM = re.compile(rf"(?:{_WORDS}):?|[0-9]{{1,3}}")
"""Words that are surely no program in any sandbox; of all others the twin cannot tell."""


class TwinShell:
    """A shell over the trail's files. A line that it cannot answer as bash would is left undone whole."""

    def __init__(self, trail: Trail) -> None:
        """Lay out the trail."""
        archives = {pack(packed): packed for packed in trail.archives.values()}
        self._laid_out = trail.contents
        self._folder = Folder(trail.contents, archives)
        self._ended = False

    async def run(self, command: str) -> Output:
        """Run one line."""
        if self._ended:
            return Output(ended=True, exit_code=1)
        before = self._folder.copy()
        try:
            return self._run_line(parse(command))
        except UnsupportedError:
            self._folder = before
            return Output(unsupported=True)

    async def close(self) -> None:
        """End the shell."""
        self._ended = True

    async def state(self) -> JSON:
        """Return whether it has ended, and the files that were not there or not so at the beginning."""
        written = {name: data for name, data in self._folder.files().items() if self._laid_out.get(name) != data}
        return {"ended": self._ended, "files": {name: data.decode("latin-1") for name, data in written.items()}}

    async def restore(self, state: JSON) -> None:
        """Write those files."""
        files = state.get("files") if isinstance(state, Mapping) else None
        if not isinstance(state, Mapping) or not isinstance(files, Mapping):
            raise ContractError("this is no state of the twin of trail; give it what its own `state` returned")
        for name, text in files.items():
            self._folder.write(name, str(text).encode("latin-1"))
        self._ended = bool(state["ended"])

    async def fingerprint(self, folder: str) -> str:
        """Return a digest of that and of the files that lie there from the beginning."""
        files = {name: data.decode("latin-1") for name, data in self._folder.files().items()}
        return digest([self._ended, files])

    def read(self, name: str) -> bytes | None:
        """Return the bytes of a file, or None; for the judge, not for the agent."""
        return self._folder.read(name)

    def _run_line(self, commands: list[Command]) -> Output:
        total = Output()
        for command in commands:
            failed = total.exit_code != 0
            if (command.connector == "&&" and failed) or (command.connector == "||" and not failed):
                continue
            if command.words[0] == "exit":
                return self._exit(command, total)
            output = self._run_command(command)
            total = replace(output, stdout=total.stdout + output.stdout, stderr=total.stderr + output.stderr)
        return total

    def _exit(self, command: Command, so_far: Output) -> Output:
        words = command.words[1:]
        if command.redirection is not None or len(words) > 1 or not all(re.fullmatch("[0-9]{1,2}", w) for w in words):
            raise UnsupportedError
        self._ended = True
        return Output(ended=True, exit_code=int(words[0]) if words else so_far.exit_code)

    def _run_command(self, command: Command) -> Output:
        program, *words = command.words
        if program not in PROGRAMS and not _NO_PROGRAM.fullmatch(program):
            raise UnsupportedError
        if command.redirection is not None:
            return self._redirected(program, words, command.redirection)
        return self._run_program(program, words)

    def _run_program(self, program: str, words: list[str]) -> Output:
        if program in PROGRAMS:
            return PROGRAMS[program](words, self._folder)
        return Output(stderr=f"bash: {program}: command not found\n".encode(), exit_code=127)

    def _redirected(self, program: str, words: list[str], redirection: Redirection) -> Output:
        """Create the file first, as bash does, then run the program and fill it."""
        name = self._folder.name(redirection.path)
        if program == "tar" or (program in ("cat", "grep") and name in map(self._folder.name, words)):
            raise UnsupportedError  # reading what is being written depends on timing
        if not name:
            return Output(stderr=f"bash: {redirection.path}: Is a directory\n".encode(), exit_code=1)
        kept = (self._folder.read(name) or b"") if redirection.append else b""
        self._folder.write(name, kept)
        output = self._run_program(program, words)
        self._folder.write(name, kept + output.stdout)
        return replace(output, stdout=b"")
