"""Start processes inside of containers: a program of its own that the owner's process runs and talks to.

It imports nothing but a little of the standard library, so that it is small and quick to fork. Each request names a
container by a pidfd of its first process. The fork enters the container's cgroups and namespaces, gives up every
privilege, installs the seccomp filters of the container and becomes the command; the parent reports how it ends.
It knows no engine, no sandbox and no time-out.
"""

import array
import base64
import ctypes
import errno
import fcntl
import json
import os
import resource
import select
import signal
import socket
import struct
import termios
from collections.abc import Mapping, Sequence
from typing import Final, NoReturn, TypedDict

__all__ = ["Request", "main"]

_NAMESPACES: Final = 0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x40000000  # mnt, cgroup, uts, ipc, net
_PID_NAMESPACE: Final = 0x20000000
_SET_PARENT_DEATH_SIGNAL: Final = 1
_SET_DUMPABLE: Final = 4
_SET_SECCOMP: Final = 22
_DROP_BOUNDING: Final = 24
_SET_NO_NEW_PRIVILEGES: Final = 38
_AMBIENT: Final = 47
_AMBIENT_CLEAR: Final = 4
_LAST_CAPABILITY: Final = 63
_CAPABILITY_VERSION: Final = 0x20080522
_UNLOCK_TERMINAL: Final = 0x40045431
_TERMINAL_NUMBER: Final = 0x80045430
_MESSAGE_BYTES: Final = 1 << 16
_DESCRIPTORS: Final = 6
_NOT_EXECUTABLE: Final = 126
_NOT_FOUND: Final = 127

_libc = ctypes.CDLL(None, use_errno=True)


class Request(TypedDict):
    """One command to start; its descriptors come with the message."""

    argv: list[str]
    env: dict[str, str]
    cwd: str
    user: int
    group: int
    groups: list[int]
    limits: list[tuple[int, int, int]]
    """Resource, soft and hard."""
    cgroups: list[str]
    """The `cgroup.procs` files to join."""
    security: dict[str, str]
    """File below /proc/self/attr → the label to take at exec."""
    terminal: list[int] | None
    """Columns and rows."""


def main() -> None:
    """Serve requests on the socket that is standard input, until its other end is closed."""
    channel = socket.socket(fileno=0)
    filters = [base64.b64decode(program) for program in json.loads(channel.recv(_MESSAGE_BYTES * 4))]
    wake_read, wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    own_namespace = os.open("/proc/self/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    poll.register(wake_read, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == wake_read:
                os.read(wake_read, 4096)
                _report_ends(channel)
            elif not _serve(channel, own_namespace, filters):
                return


def _serve(channel: socket.socket, own_namespace: int, filters: Sequence[bytes]) -> bool:
    """Take one request; return False once there will be none any more."""
    message, descriptors = _receive(channel)
    if not message:
        return False
    identity = int(message)
    try:
        with os.fdopen(os.dup(descriptors[0]), "rb") as file:
            file.seek(0)
            request: Request = json.load(file)
        pid = _fork(request, descriptors, own_namespace, filters)
    except (OSError, ValueError, IndexError) as error:
        _tell(channel, {"id": identity, "pid": None, "errno": getattr(error, "errno", None), "error": str(error)})
    else:
        _tell(channel, {"id": identity, "pid": pid})
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
    return True


def _receive(channel: socket.socket) -> tuple[bytes, list[int]]:
    room = array.array("i", [0] * _DESCRIPTORS)
    message, ancillary, _, _ = channel.recvmsg(
        64, socket.CMSG_SPACE(len(room) * room.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    descriptors = array.array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(data[: len(data) - len(data) % descriptors.itemsize])
    return message, list(descriptors)


def _tell(channel: socket.socket, message: Mapping[str, object]) -> None:
    try:
        channel.send(json.dumps(message).encode())
    except OSError:  # the owner is gone: the next receive ends this program
        return


def _report_ends(channel: socket.socket) -> None:
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        code = os.waitstatus_to_exitcode(status)
        seconds = usage.ru_utime + usage.ru_stime
        _tell(channel, {"ended": pid, "code": code, "cpu": seconds, "rss": usage.ru_maxrss * 1024})


def _fork(request: Request, descriptors: Sequence[int], own_namespace: int, filters: Sequence[bytes]) -> int:
    """Fork into the container's pid namespace; return the new process's id as the host knows it."""
    _, container, report, *streams = descriptors
    _check(_libc.setns(container, _PID_NAMESPACE), "the container's pid namespace")
    pid = -1
    try:
        pid = os.fork()
        if pid == 0:
            _become(request, container, report, streams, filters)
    except BaseException as error:
        if pid == 0:  # a fork must never return into its parent's code
            _fail(report, error, "start")
        raise
    finally:
        if pid != 0:
            _check(_libc.setns(own_namespace, _PID_NAMESPACE), "the own pid namespace")
    return pid


def _fail(report: int, error: BaseException, stage: str) -> NoReturn:
    text = json.dumps({"stage": stage, "errno": getattr(error, "errno", None), "error": str(error)})
    try:
        os.write(report, text.encode()[:_MESSAGE_BYTES])
    finally:
        os._exit(_NOT_EXECUTABLE)


def _become(
    request: Request, container: int, report: int, streams: Sequence[int], filters: Sequence[bytes]
) -> NoReturn:
    """Turn this fork into the command. Whatever the container's own processes may do to it, they find nothing."""
    _prctl(_SET_DUMPABLE, 0)
    os.setsid()
    for file in request["cgroups"]:
        _write(file, "0")
    _reset_signals()
    for kind, soft, hard in request["limits"]:
        resource.setrlimit(kind, (soft, hard))
    _check(_libc.setns(container, _NAMESPACES), "the container's namespaces")
    os.umask(0o022)
    _drop_privileges(request)
    # Set last: the kernel forgets it with every change of the user.
    _prctl(_SET_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if request["terminal"] is not None:
        streams = _open_terminal(request["terminal"], report)
    try:
        os.chdir(request["cwd"])
    except OSError as error:
        _fail(report, error, "cwd")
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    report = _move_up(report)
    os.set_inheritable(report, False)
    os.closerange(3, report)
    os.closerange(report + 1, 1 << 16)
    for file, label in request["security"].items():
        _write(f"/proc/self/attr/{file}", label)
    for program in filters:
        _install(program)
    _exec(request["argv"], request["env"])


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def _drop_privileges(request: Request) -> None:
    for capability in range(_LAST_CAPABILITY + 1):
        if _libc.prctl(_DROP_BOUNDING, capability, 0, 0, 0) != 0:  # past the last one that the kernel knows
            break
    _prctl(_SET_NO_NEW_PRIVILEGES, 1)
    _prctl(_AMBIENT, _AMBIENT_CLEAR)
    os.setgroups(request["groups"])
    os.setresgid(request["group"], request["group"], request["group"])
    os.setresuid(request["user"], request["user"], request["user"])
    header = struct.pack("=Ii", _CAPABILITY_VERSION, 0)
    _check(_libc.capset(header, bytes(24)), "giving up capabilities")
    # A change of the user sets the kernel's default here, which may let others of that user look in.
    _prctl(_SET_DUMPABLE, 0)


def _open_terminal(size: Sequence[int], report: int) -> Sequence[int]:
    """Make a pseudo-terminal of the container's own kind; its master goes to the owner."""
    master = os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    fcntl.ioctl(master, _UNLOCK_TERMINAL, struct.pack("i", 0))
    number = struct.unpack("i", fcntl.ioctl(master, _TERMINAL_NUMBER, struct.pack("i", 0)))[0]
    slave = os.open(f"/dev/pts/{number}", os.O_RDWR | os.O_NOCTTY)
    columns, rows = size
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    with socket.socket(fileno=os.dup(report)) as channel:
        rights = array.array("i", [master])
        channel.sendmsg([b"terminal"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    os.close(master)
    return (slave, slave, slave)


def _move_up(descriptor: int) -> int:
    """Move a descriptor out of the way of the three standard streams."""
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)


def _exec(argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Become the command, or end as a shell does that cannot find or run it."""
    name = argv[0]
    folders = [""] if "/" in name else [f"{folder or '.'}/" for folder in env.get("PATH", os.defpath).split(":")]
    reason = errno.ENOENT
    for folder in folders:
        try:
            _exec_file(folder + name, argv, env)
        except OSError as error:
            if error.errno not in {errno.ENOENT, errno.ENOTDIR} and reason == errno.ENOENT:
                reason = error.errno or errno.ENOEXEC
    missing = reason == errno.ENOENT
    said = f"sh: 1: {name}: {'not found' if missing else os.strerror(reason)}\n"
    try:
        os.write(2, said.encode(errors="surrogateescape"))
    finally:
        os._exit(_NOT_FOUND if missing else _NOT_EXECUTABLE)


def _exec_file(path: str, argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    try:
        os.execve(path, list(argv), env)
    except OSError as error:
        if error.errno != errno.ENOEXEC:
            raise
    # A script without a first line that names its interpreter is the shell's, as everywhere.
    os.execve("/bin/sh", ["/bin/sh", path, *argv[1:]], env)


def _install(program: bytes) -> None:
    """Install one classic BPF program as a seccomp filter."""
    instructions = ctypes.create_string_buffer(program, len(program))

    class Program(ctypes.Structure):
        _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))

    filled = Program(len(program) // 8, ctypes.addressof(instructions))
    _check(_libc.prctl(_SET_SECCOMP, 2, ctypes.byref(filled), 0, 0), "a seccomp filter")


def _prctl(option: int, value: int) -> None:
    _check(_libc.prctl(option, value, 0, 0, 0), f"prctl {option}")


def _check(result: int, what: str) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def _write(file: str, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


if __name__ == "__main__":
    main()
