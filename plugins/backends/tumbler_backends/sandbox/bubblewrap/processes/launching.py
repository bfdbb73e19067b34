"""Start the program bwrap and tie it to this process by pipes; waits for nothing."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from tumbler_backends.sandbox.bubblewrap.processes.entering import start_inside
from tumbler_backends.sandbox.egress.network_namespace import NamespaceDescriptors

__all__ = ["Launched", "launch"]


@dataclass(frozen=True, kw_only=True)
class Launched:
    """A bwrap that has been started, and this process's ends of its pipes."""

    popen: "subprocess.Popen[bytes]"
    control: socket.socket
    """The stdin of the first program inside."""
    diagnosis: int
    """Where bwrap says what went wrong. Someone has it open as long as anything lives in the namespaces."""
    news: int
    """Where bwrap tells the pid of the first program, in pieces; it dies where nobody would read them."""
    gate: int
    """Where bwrap waits for a byte before the first program."""


def launch(
    program: Sequence[str],
    arguments: Sequence[str],
    descriptors: Sequence[int],
    namespaces: NamespaceDescriptors | None,
) -> Launched:
    """Start bwrap, called `program`, with `arguments`, in a session of its own and without this environment.

    `descriptors` are inherited, and no others. With `namespaces`, it starts in there.
    """
    control, inner = socket.socketpair()
    diagnosis, diagnosis_inner = os.pipe2(os.O_CLOEXEC)
    news, news_inner = os.pipe2(os.O_CLOEXEC)
    gate_inner, gate = os.pipe2(os.O_CLOEXEC)

    def start() -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [*_signals_restored(), *program, "--info-fd", str(news_inner), "--block-fd", str(gate_inner), *arguments],
            stdin=inner.fileno(),
            # Nothing of the host's, were it /dev/null: who has it could change its permissions for everybody.
            stdout=diagnosis_inner,
            stderr=diagnosis_inner,
            env={},
            pass_fds=(news_inner, gate_inner, *descriptors),
            start_new_session=True,
        )

    try:
        popen = start() if namespaces is None else start_inside(namespaces, start)
    except BaseException:
        for descriptor in (diagnosis, news, gate):
            os.close(descriptor)
        control.close()
        raise
    finally:
        inner.close()
        for descriptor in (diagnosis_inner, news_inner, gate_inner):
            os.close(descriptor)
    for descriptor in (control.fileno(), diagnosis, news):
        os.set_blocking(descriptor, False)
    return Launched(popen=popen, control=control, diagnosis=diagnosis, news=news, gate=gate)


def _signals_restored() -> Sequence[str]:
    """Return what goes before a program so that it does not inherit that this process ignores signals.

    A process that a shell has put into the background, or nohup started, ignores some; bash could not trap them inside.
    """
    asked = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)
    ignored = [number.name for number in asked if signal.getsignal(number) == signal.SIG_IGN]
    return (*_env(), f"--default-signal={','.join(ignored)}") if ignored and _env() else ()


@cache
def _env() -> Sequence[str]:
    """Return the host's program env if it can restore signals, which that of busybox cannot; else nothing."""
    env = shutil.which("env")
    if env is None:
        return ()
    tried = subprocess.run([env, "--default-signal=INT", "true"], capture_output=True, timeout=10, check=False)
    return (env,) if tried.returncode == 0 else ()
