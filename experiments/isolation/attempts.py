"""The attempts: what each does in which languages, and how it is seen whether it succeeded."""

import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from world import METADATA, World, processes_with

from tumbler.contracts.sandbox import ExecResult, Resources, Sandbox

__all__ = ["ALL", "LANGUAGES", "LIMITS", "Attempt", "Outcome"]

LANGUAGES = ("sh", "py", "c", "js", "pl")
"""POSIX shell (bash for sockets), Python, C, Node, Perl: the suffixes of the programs."""
PROGRAMS = Path(__file__).parent / "programs"
LIMITS = Resources(memory_bytes=256 << 20, processes=64, open_files=256, disk_bytes=64 << 20)
"""What the bombs must not pass."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One attempt in one language, after the fact."""

    word: str
    """The word that only this attempt knows."""
    result: ExecResult


Words: TypeAlias = Callable[[World, str], Sequence[object]]
Judge: TypeAlias = Callable[[World, Outcome], bool]
After: TypeAlias = Callable[[World, Sandbox, str], Awaitable[bool]]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """Something that no sandbox may let happen."""

    name: str
    program: str
    words: Words
    """The program's arguments, from the world and the attempt's own word."""
    judge: Judge
    """Whether the attempt succeeded, by what the program printed and by what the world saw."""
    after: After | None = None
    """More that the host does with the sandbox afterwards; true if that was a success."""
    once_deleted: Judge | None = None
    """Whether anything is left once the sandbox is deleted."""
    timeout: float = 30.0
    form: str | None = None
    """The case of the program that is tried, where not every language can do every case."""

    @property
    def languages(self) -> tuple[str, ...]:
        """Return the languages that the program exists in, and in which it knows the form."""
        sources = {name: PROGRAMS / f"{self.program}.{name}" for name in LANGUAGES}
        return tuple(
            name
            for name, source in sources.items()
            if source.is_file() and (self.form is None or f'"{self.form}"' in source.read_text())
        )


def _leaked(world: World, outcome: Outcome) -> bool:
    return world.secret.encode() in outcome.result.stdout


def _heard(world: World, outcome: Outcome) -> bool:
    return outcome.word.encode() in world.heard or _leaked(world, outcome)


def _said(word: str) -> Judge:
    return lambda _, outcome: word.encode() in outcome.result.stdout


def _above(word: str, limit: int) -> Judge:
    """Judge by the largest number printed behind a word."""

    def judge(_: World, outcome: Outcome) -> bool:
        numbers = re.findall(rb"%s (\d+)" % word.encode(), outcome.result.stdout)
        return max(map(int, numbers), default=0) > limit

    return judge


def _victim_died(world: World, _: Outcome) -> bool:
    return not world.victim_lives()


def _never(_: World, __: Outcome) -> bool:
    return False


def _target_changed(world: World, outcome: Outcome) -> bool:
    return outcome.word in world.target.read_text()


def _outside_file(path: str) -> Judge:
    """Judge by a file of the host that holds the attempt's word; remove it."""

    def judge(_: World, outcome: Outcome) -> bool:
        place = Path(path)
        found = place.is_file() and outcome.word in place.read_text(errors="replace")
        if found:
            place.unlink()
        return found

    return judge


def _still_runs(_: World, outcome: Outcome) -> bool:
    return bool(processes_with(outcome.word))


async def _host_reads(world: World, sandbox: Sandbox, _: str) -> bool:
    try:
        return world.secret.encode() in await sandbox.read("trap")
    except OSError:
        return False
    except Exception:  # noqa: BLE001  # a refusal of any class is a refusal
        return False


async def _host_writes(world: World, sandbox: Sandbox, word: str) -> bool:
    try:
        await sandbox.write("trap/planted", word.encode())
    except Exception:  # noqa: BLE001  # a refusal of any class is a refusal
        return False
    return (world.folder / "planted").exists()


def _read(name: str, *paths: Callable[[World], object]) -> Attempt:
    return Attempt(name=name, program="read", words=lambda world, _: [path(world) for path in paths], judge=_leaked)


def _syscall(name: str, title: str, *more: Callable[[World], object]) -> Attempt:
    return Attempt(
        name=title,
        program="syscall",
        form=name,
        words=lambda world, _: [name, *(each(world) for each in more)],
        judge=_said("PERMITTED"),
    )


def _send(name: str, kind: str, host: Callable[[World], str], port: Callable[[World], int]) -> Attempt:
    return Attempt(
        name=name,
        program="send",
        words=lambda world, word: [kind, host(world), port(world), word],
        judge=_heard,
    )


READS = (
    _read("read a flag of the host by its path", lambda world: world.flag),
    _read("read a flag by ..", lambda world: "../" * 12 + str(world.flag)),
    _read("read a flag through /proc/1/root", lambda world: f"/proc/1/root{world.flag}"),
    _read("read a flag through /proc/self/root", lambda world: f"/proc/self/root/../..{world.flag}"),
    _read("read a flag through a host process's root", lambda world: f"/proc/{world.victim.pid}/root{world.flag}"),
    _read("read a flag through a host process's cwd", lambda world: f"/proc/{world.victim.pid}/cwd{world.flag}"),
    _read("read a host process's open file", lambda world: f"/proc/{world.victim.pid}/fd/3"),
    _read("read a host process's environment", lambda world: f"/proc/{world.victim.pid}/environ"),
    _read("read a neighbour's /tmp", lambda _: "/tmp/neighbour-secret"),
    Attempt(name="find a secret in any environment or open file", program="scan", words=lambda *_: (), judge=_leaked),
    Attempt(
        name="hard link to a flag",
        program="link",
        words=lambda world, _: ["hard", world.flag, "trap"],
        judge=_leaked,
    ),
    Attempt(
        name="symbolic link that the host reads",
        program="link",
        words=lambda world, _: ["symbolic", world.flag, "trap"],
        judge=_never,
        after=_host_reads,
    ),
    Attempt(
        name="symbolic link that the host writes through",
        program="link",
        words=lambda world, _: ["symbolic", world.folder, "trap"],
        judge=_never,
        after=_host_writes,
    ),
)

WRITES = (
    Attempt(
        name="write to a file of the host",
        program="write",
        words=lambda world, word: [word, world.target],
        judge=_target_changed,
    ),
    Attempt(
        name="write into the host's /usr",
        program="write",
        words=lambda _, word: [word, "/usr/local/tumbler-battery"],
        judge=_outside_file("/usr/local/tumbler-battery"),
    ),
    Attempt(
        name="write into the host's /tmp",
        program="write",
        words=lambda _, word: [word, "/tmp/tumbler-battery"],
        judge=_outside_file("/tmp/tumbler-battery"),
    ),
    *(
        Attempt(name=title, program="rewrite", words=lambda _, __, path=path: [path], judge=_said("REWRITTEN"))
        for title, path in (
            ("write core_pattern", "/proc/sys/kernel/core_pattern"),
            ("write a kernel setting", "/proc/sys/kernel/panic"),
            ("write a memory setting", "/proc/sys/vm/swappiness"),
            ("write a cgroup limit", "/sys/fs/cgroup/pids/notify_on_release"),
            ("write the release agent of cgroups", "/sys/fs/cgroup/devices/notify_on_release"),
        )
    ),
)

SYSCALLS = (
    _syscall("mount", "mount a file system"),
    _syscall("bind-mount", "bind a folder"),
    _syscall("remount", "mount /usr writable"),
    _syscall("pivot-root", "pivot_root"),
    _syscall("chroot", "chroot"),
    _syscall("fsopen", "mount by fsopen"),
    _syscall("open-tree", "clone a mount by open_tree"),
    _syscall("user-namespace", "a nested user namespace"),
    _syscall("mount-namespace", "a mount namespace of its own"),
    _syscall("network-namespace", "a network namespace of its own"),
    _syscall("join-namespace", "join the namespaces of process 1"),
    _syscall("ptrace", "trace a host process", lambda world: world.victim.pid),
    _syscall("pidfd", "a descriptor of a host process", lambda world: world.victim.pid),
    _syscall(
        "read-memory",
        "read a host process's memory",
        lambda world: world.victim.pid,
        lambda world: hex(world.victim_address),
    ),
    _syscall("keyctl", "read the kernel's keyring"),
    _syscall("add-key", "write the kernel's keyring"),
    _syscall("bpf", "make a BPF map"),
    _syscall("userfaultfd", "userfaultfd"),
    _syscall("perf-event", "perf_event_open"),
    _syscall("io-uring", "io_uring"),
    _syscall("open-by-handle", "open_by_handle_at"),
    _syscall("load-module", "load a kernel module"),
    _syscall("kexec", "kexec"),
    _syscall("reboot", "reboot"),
    _syscall("clock", "set the clock"),
    _syscall("packet-socket", "a packet socket"),
    _syscall("raw-socket", "a raw socket"),
    _syscall("device-node", "make the disk's device node"),
    _syscall("set-user", "change the user or groups"),
    _syscall("nice", "raise its own priority"),
    _syscall("push-input", "push input into a terminal (TIOCSTI)"),
)

PROCESSES = (
    Attempt(
        name="kill a host process",
        program="signal",
        words=lambda world, _: [world.victim.pid],
        judge=_victim_died,
    ),
    Attempt(
        name="kill a neighbour's process",
        program="signal",
        words=lambda world, _: world.neighbour_pids(),
        judge=lambda world, _: not world.neighbour_pids(),
    ),
    Attempt(
        name="a daemon that outlives the sandbox",
        program="daemon",
        words=lambda _, word: [word],
        judge=_never,
        once_deleted=_still_runs,
    ),
    Attempt(
        name="zombies that outlive the sandbox",
        program="zombies",
        words=lambda _, word: [word],
        judge=_never,
        once_deleted=_still_runs,
    ),
)

BOMBS = (
    Attempt(name="fork bomb", program="fork", words=lambda *_: [400], judge=_above("ALIVE", LIMITS.processes or 0)),
    Attempt(name="memory bomb", program="memory", words=lambda *_: [512], judge=_above("TOUCHED", 256), timeout=60),
    Attempt(name="disk bomb", program="disk", words=lambda *_: [128], judge=_above("WRITTEN", 64), timeout=60),
    Attempt(name="inode bomb", program="inodes", words=lambda *_: [40_000], judge=_above("MADE", 39_999), timeout=120),
    Attempt(
        name="descriptor bomb",
        program="descriptors",
        words=lambda *_: [2000],
        judge=_above("OPENED", LIMITS.open_files or 0),
    ),
)

NETWORK = (
    _send("TCP to the host's loopback", "tcp", lambda _: "127.0.0.1", lambda world: world.tcp_port),
    _send("TCP to the host's address", "tcp", lambda world: world.host_address, lambda world: world.tcp_port),
    _send("TCP to the metadata address", "tcp", lambda _: METADATA, lambda world: world.tcp_port),
    _send("UDP to the host's loopback", "udp", lambda _: "127.0.0.1", lambda world: world.udp_port),
    _send("UDP to the host's address", "udp", lambda world: world.host_address, lambda world: world.udp_port),
    _send("TCP to a neighbour's port", "tcp", lambda _: "127.0.0.1", lambda world: world.neighbour_port),
    Attempt(
        name="an abstract unix socket of the host",
        program="send",
        words=lambda world, word: ["unix", world.abstract, 0, word],
        judge=_heard,
    ),
    Attempt(
        name="a name server's query that carries data",
        program="dns",
        words=lambda world, word: [world.host_address, world.udp_port, word],
        judge=_heard,
    ),
    Attempt(
        name="ICMP echo to the host",
        program="ping",
        words=lambda world, _: [world.host_address],
        # A sandbox with a loopback of its own may ping itself.
        judge=lambda world, outcome: world.host_address != "127.0.0.1" and b"REPLIED" in outcome.result.stdout,
    ),
    Attempt(
        name="a reverse tunnel",
        program="tunnel",
        words=lambda world, _: [world.host_address, world.tcp_port],
        judge=lambda world, _: _taken(world),
    ),
)


def _taken(world: World) -> bool:
    """Tell whether a tunnel was opened since the last time."""
    opened, world.tunnels = world.tunnels > 0, 0
    return opened


ALL: tuple[Attempt, ...] = (*READS, *WRITES, *SYSCALLS, *PROCESSES, *BOMBS, *NETWORK)
