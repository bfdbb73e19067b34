"""A server that misbehaves as its argument says; it speaks the protocol by hand, with the standard library only."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

MODE = sys.argv[1]
NOTE = sys.argv[2] if len(sys.argv) > 2 else ""
NAMES = {"twins": ["a.b", "a_b"], "long": ["n" * 80]}.get(MODE, ["go"])


def say(message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


def note(pid: int) -> None:
    with Path(NOTE).open("a", encoding="utf-8") as file:
        file.write(f"{pid}\n")


def go(identity: object) -> None:
    if MODE == "dies":
        if not Path(NOTE).exists():
            note(os.getpid())
            sys.stderr.write("out of cheese\n")
            sys.stderr.flush()
            os._exit(3)
    elif MODE == "orphan":  # its child keeps the pipe open after its death
        child = subprocess.Popen(["sleep", "600"])
        note(child.pid)
        os._exit(4)
    elif MODE == "hangs" or MODE == "deaf":
        time.sleep(600)
    elif MODE == "closes":
        os.close(1)
        time.sleep(600)
    elif MODE == "nonsense":
        say({"jsonrpc": "2.0", "id": identity, "result": {"content": [{"type": "hologram"}]}})
        return
    elif MODE == "refuses":
        say({"jsonrpc": "2.0", "id": identity, "error": {"code": -32602, "message": "not like this"}})
        return
    elif MODE == "endless":
        while True:
            sys.stdout.write("x" * (1 << 20))
    say({"jsonrpc": "2.0", "id": identity, "result": {"content": [{"type": "text", "text": "gone"}]}})


def answer(request: dict[str, object]) -> None:
    method, identity = request["method"], request.get("id")
    if method == "initialize":
        result: dict[str, object] = {
            "protocolVersion": "2025-03-26",
            "capabilities": {"tools": {}},
            "serverInfo": {"name": "rude", "version": "1"},
        }
        say({"jsonrpc": "2.0", "id": identity, "result": result})
    elif method == "tools/list":
        if MODE == "no-list":
            say({"jsonrpc": "2.0", "id": identity, "error": {"code": -32603, "message": "no tools today"}})
            return
        tools = [{"name": name, "inputSchema": {"type": "object"}} for name in NAMES]
        say({"jsonrpc": "2.0", "id": identity, "result": {"tools": tools}})
    elif method == "tools/call":
        go(identity)
    elif identity is not None:
        say({"jsonrpc": "2.0", "id": identity, "error": {"code": -32601, "message": "unknown"}})


if MODE == "dead":
    sys.exit("cannot find my settings")
if MODE == "silent":
    time.sleep(600)
if MODE in ("stubborn", "family"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note(os.getpid())
if MODE == "family":  # one child in the group, one in a session of its own whose parent is gone
    note(subprocess.Popen(["sleep", "600"]).pid)
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork() == 0:
            note(os.getpid())
            os.execvp("sleep", ["sleep", "600"])
        os._exit(0)
    os.waitpid(pid, 0)
if MODE == "junk":
    sys.stdout.write('Welcome to rude server 1.0!\n\n{not json}\n[1, 2]\n{"jsonrpc": "2.0"}\n')
    sys.stdout.flush()
    sys.stdout.buffer.write(b"\xff\xfe\n")
    sys.stdout.flush()
for line in sys.stdin:
    if MODE == "junk":
        sys.stdout.write("DEBUG: " + line)
    answer(json.loads(line))
if MODE in ("stubborn", "family"):
    time.sleep(600)
