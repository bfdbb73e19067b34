"""Runs inside a sandbox, alone and with the standard library only: starts processes that its host asks for.

Each connection to its socket is one process: the host sends a length, a JSON description and three descriptors for
stdin, stdout and stderr; the agent answers with one JSON line at the start and one at the end. All processes share the
sandbox's pid namespace, as they do on Modal.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

_DESCRIPTORS = 3
_LENGTH_BYTES = 4


def main(path: str) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{path}.new")
        listener.listen(1024)
        Path(f"{path}.new").chmod(0o777)
        Path(f"{path}.new").rename(path)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=_serve, args=(connection,), daemon=True).start()


def _serve(connection: socket.socket) -> None:
    with connection, contextlib.suppress(OSError):
        head, descriptors, _, _ = socket.recv_fds(connection, _LENGTH_BYTES, _DESCRIPTORS)
        wanted = json.loads(_receive(connection, int.from_bytes(head, "big")))
        try:
            process = subprocess.Popen(
                wanted["words"],
                cwd=wanted["folder"],
                env={**os.environ, **wanted["env"]},
                stdin=descriptors[0],
                stdout=descriptors[1],
                stderr=descriptors[2],
                start_new_session=True,
            )
        except OSError as error:
            _say(connection, {"error": str(error)})
            return
        finally:
            for descriptor in descriptors:
                os.close(descriptor)
        _say(connection, {"pid": process.pid})
        threading.Thread(target=_obey, args=(connection.dup(), process.pid), daemon=True).start()
        _say(connection, {"code": process.wait()})
        connection.shutdown(socket.SHUT_RDWR)


def _obey(connection: socket.socket, pid: int) -> None:
    with connection, contextlib.suppress(OSError):
        while connection.recv(1):
            os.killpg(pid, signal.SIGKILL)


def _receive(connection: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = connection.recv(length - len(data))
        if not piece:
            raise ConnectionError("the host went away")
        data += piece
    return data


def _say(connection: socket.socket, words: dict[str, object]) -> None:
    connection.sendall(json.dumps(words).encode() + b"\n")


if __name__ == "__main__":
    main(sys.argv[1])
