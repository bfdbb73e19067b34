"""Run cells of Python one after another in one namespace. This text is sent into sandboxes: it needs only Python 3.8.

Requests come as JSON lines on stdin, events go as JSON lines to stdout. What the cells and their child processes
print is caught at the descriptors 1 and 2 and told as events.
"""

from __future__ import annotations

import ast
import asyncio
import codecs
import inspect
import json
import linecache
import os
import secrets
import signal
import sys
import threading
import time
import traceback
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType, FrameType
    from typing import TypeAlias

    Event: TypeAlias = dict[str, object]

FORMATS = ("html", "markdown", "svg", "png", "jpeg", "pdf", "latex", "json", "javascript")


class Relay:
    """One of the descriptors 1 and 2, turned into events by a thread."""

    def __init__(self, descriptor: int, name: str, tell: Callable[[Event], None]) -> None:
        """Begin at once."""
        self.descriptor, self.name, self.tell = descriptor, name, tell
        self.marker = b"\0" + secrets.token_hex(16).encode() + b"\0"
        self.seen = threading.Event()
        self.decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self.source, sink = os.pipe()
        os.dup2(sink, descriptor)
        os.close(sink)
        threading.Thread(target=self.run, daemon=True).start()

    def drain(self) -> None:
        """Return once everything written so far is told."""
        self.seen.clear()
        os.write(self.descriptor, self.marker)
        self.seen.wait()

    def run(self) -> None:
        """Tell what is written, until nobody holds the descriptor."""
        held = b""
        while True:
            piece = os.read(self.source, 65536)
            if not piece:
                return
            held += piece
            while self.marker in held:
                before, _, held = held.partition(self.marker)
                self.show(before, True)
                self.seen.set()
            # A marker may be cut in two; a NUL that begins none is told with what comes after it.
            cut = held.rfind(b"\0", max(0, len(held) - len(self.marker) + 1))
            whole = held if cut < 0 or not self.marker.startswith(held[cut:]) else held[:cut]
            held = held[len(whole) :]
            self.show(whole, False)

    def show(self, data: bytes, final: bool) -> None:
        """Tell a piece; `final` ends a cell's text."""
        text = self.decoder.decode(data, final)
        if final:
            self.decoder.reset()
        if text:
            self.tell({"type": self.name, "text": text, "timestamp": time.time_ns()})


class Cells:
    """The namespace, and how a cell is run in it."""

    def __init__(self, tell: Callable[[Event], None]) -> None:
        """Begin with an empty namespace."""
        self.tell = tell
        self.count = 0
        self.running = False
        self.names: dict[str, object] = {"__name__": "__main__", "__builtins__": __builtins__}
        self.loop = asyncio.new_event_loop()

    def run(self, code: str, environment: dict[str, str]) -> None:
        """Run a cell and tell its result or its error."""
        self.count += 1
        before = {name: os.environ.get(name) for name in environment}
        os.environ.update(environment)
        self.running = True
        try:
            self.evaluate(code, f"<cell {self.count}>")
        except BaseException as error:  # noqa: BLE001  # the cell's own code runs here, and may raise SystemExit
            self.running = False
            self.report(error)
        finally:
            self.running = False
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value

    def evaluate(self, code: str, name: str) -> None:
        """Run a cell's statements, and tell the value of an expression at its end."""
        linecache.cache[name] = (len(code), None, code.splitlines(True), name)
        tree = ast.parse(code, name)
        last = None
        final = tree.body[-1] if tree.body else None
        if isinstance(final, ast.Expr):
            last = ast.Expression(final.value)
            del tree.body[-1]
        self.execute(compile(tree, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
        if last is not None:
            value = self.execute(compile(last, name, "eval", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT))
            if value is not None:
                self.names["_"] = value
                self.tell(dict(described(value), type="result", is_main_result=True))

    def execute(self, code: CodeType) -> object:
        """Run compiled code; one that awaits runs in the loop."""
        value = eval(code, self.names)
        return self.loop.run_until_complete(value) if code.co_flags & inspect.CO_COROUTINE else value

    def report(self, error: BaseException) -> None:
        """Tell an error as it looks from the cell."""
        own = error.__traceback__
        while own is not None and not own.tb_frame.f_code.co_filename.startswith("<cell "):
            own = own.tb_next
        lines = traceback.format_exception(type(error), error, own)
        self.tell(
            {"type": "error", "name": type(error).__name__, "value": str(error), "traceback": "".join(lines).rstrip()}
        )

    def interrupted(self, number: int, frame: FrameType | None) -> None:
        """Stop the cell that runs, if one does."""
        if self.running:
            raise KeyboardInterrupt


def described(value: object) -> Event:
    """Return a value in each form that it offers of itself."""
    forms: Event = {"text": repr(value)}
    for name in FORMATS:
        method = None if isinstance(value, type) else getattr(value, f"_repr_{name}_", None)
        try:
            form = method() if callable(method) else None
            json.dumps(form)
        except Exception:  # noqa: BLE001  # a value's own code runs here
            continue
        if form is not None:
            forms[name] = form
    return forms


def main() -> None:
    """Serve until stdin ends."""
    requests = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    lock = threading.Lock()
    current = [""]

    def tell(event: Event) -> None:
        with lock:
            answers.write(json.dumps(dict(event, id=current[0])).encode() + b"\n")
            answers.flush()

    relays = [Relay(1, "stdout", tell), Relay(2, "stderr", tell)]
    cells = Cells(tell)
    asyncio.set_event_loop(cells.loop)
    signal.signal(signal.SIGINT, cells.interrupted)
    sys.path.insert(0, "")
    for line in requests:
        request = json.loads(line)
        current[0] = request["id"]
        cells.run(request["code"], request["env_vars"])
        sys.stdout.flush()
        sys.stderr.flush()
        for relay in relays:
            relay.drain()
        tell({"type": "number_of_executions", "execution_count": cells.count})
        tell({"type": "end_of_execution"})


if __name__ == "__main__":
    main()
