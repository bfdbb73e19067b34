"""What a container may not: attempts that must fail, and the flags that see to it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import Mount, NetworkPolicy, SandboxSpec
from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.docker.backend import DockerBackend
from tumbler_backends.sandbox.docker.sandbox import DockerSandbox
from tumbler_backends.sandbox.docker.settings import DockerSettings

_SYSTEM_CALLS = {
    "ptrace": (101, "0, 0, 0, 0"),
    "mount": (165, "b'none', b'/tmp', b'tmpfs', 0, 0"),
    "unshare": (272, "0x10000000"),
    "setns": (308, "0, 0"),
    "keyctl": (250, "0, -3, 0"),
    "bpf": (321, "0, 0, 0"),
    "userfaultfd": (323, "0"),
    "perf_event_open": (298, "0, 0, -1, -1, 0"),
    "io_uring_setup": (425, "1, 0"),
    "open_by_handle_at": (304, "0, 0, 0"),
    "process_vm_readv": (310, "1, 0, 0, 0, 0, 0"),
    "pidfd_getfd": (438, "0, 0, 0"),
}
_EPERM = 1


@pytest.fixture
async def backend(docker_engine: str, docker_image: str, tmp_path: Path) -> AsyncIterator[DockerBackend]:
    backend = DockerBackend(
        DockerSettings(
            host=docker_engine,
            image=docker_image,
            root=tmp_path / "docker",
            grace=0.2,
            hosts={"inside.test": "127.0.0.1"},
        )
    )
    await backend.start()
    yield backend
    await backend.close()


@pytest.fixture
async def box(backend: DockerBackend) -> DockerSandbox:
    sandbox = await backend.create(SandboxSpec())
    assert isinstance(sandbox, DockerSandbox)
    return sandbox


async def test_system_calls_that_lead_out_are_refused(box: DockerSandbox) -> None:
    for name, (number, arguments) in _SYSTEM_CALLS.items():
        code = f"import ctypes; c = ctypes.CDLL(None, use_errno=True); c.syscall({number}, {arguments}); "
        result = await box.exec(["python3", "-c", f"{code} print(ctypes.get_errno())"])
        assert result.stdout == b"%d\n" % _EPERM, name


async def test_commands_have_no_privilege_at_all(box: DockerSandbox) -> None:
    for run in (box.exec, (await box.session()).run):
        status = dict(
            line.split(b":\t", 1) for line in (await run("cat /proc/self/status")).stdout.splitlines() if b":\t" in line
        )
        assert {status[b"Cap" + kind] for kind in (b"Inh", b"Prm", b"Eff", b"Bnd", b"Amb")} == {b"0" * 16}
        assert (status[b"NoNewPrivs"], status[b"Seccomp"]) == (b"1", b"2")
        assert int(status[b"Seccomp_filters"]) >= 2
        assert set(status[b"Uid"].split()) == {b"1000"}


async def test_root_inside_is_without_privileges_too(backend: DockerBackend) -> None:
    sandbox = await backend.create(SandboxSpec(user="root"))
    for command in (
        "mount -t tmpfs none /mnt",
        "touch /etc/made",
        "mknod /tmp/device b 254 0",
        "echo x >/proc/sys/kernel/core_pattern",
        "cat /proc/kcore | head -c 1 | grep -q .",
        "chown 1 /tmp",
        "hostname other",
    ):
        assert (await sandbox.exec(command)).exit_code != 0, command


async def test_descriptors_and_processes_of_the_host_are_not_seen(box: DockerSandbox) -> None:
    assert (await box.exec("ls /proc/self/fd")).stdout.split() == [b"0", b"1", b"2", b"3"]
    names = (await box.exec("cat /proc/[0-9]*/comm")).stdout.split()
    assert not {b"dockerd", b"containerd", b"python", b"pytest"} & set(names)
    assert (await box.exec(["sh", "-c", "ls -A /run/tumbler; ls /var/run/docker.sock /run/docker.sock"])).exit_code != 0


async def test_killing_everything_does_not_end_the_sandbox(box: DockerSandbox) -> None:
    assert (await box.exec("kill -9 -1; exit 3")).exit_code in {3, 137}
    assert (await box.exec("echo on")).stdout == b"on\n"


async def test_the_engines_socket_is_never_mounted(backend: DockerBackend, docker_engine: str) -> None:
    socket = docker_engine.removeprefix("unix://")
    for source in (socket, str(Path(socket).parent), "/"):
        with pytest.raises(CapabilityError, match="socket"):
            await backend.create(SandboxSpec(mounts=(Mount(source=source, target="/outside"),)))


async def test_files_of_the_kernel_are_not_served_with_the_owners_rights(box: DockerSandbox) -> None:
    await box.exec("ln -s /proc/1/environ one; ln -s /proc/sysrq-trigger two; ln -s /dev/null three")
    for path in ("/proc/1/environ", "one", "two", "three", "/proc/self/mem", "/sys/kernel/uevent_seqnum"):
        with pytest.raises(OSError, match=r"\w"):
            await box.read(path)
    for path in ("/proc/sysrq-trigger", "/proc/sys/kernel/core_pattern", "/dev/made"):
        with pytest.raises(OSError, match=r"\w"):
            await box.write(path, b"x")


async def test_an_allowed_name_is_reached_and_others_are_refused_and_logged(backend: DockerBackend) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\nreached")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    policy = NetworkPolicy(mode="allowlist", hosts=(f"inside.test:{port}",))
    sandbox = await backend.create(SandboxSpec(network=policy, labels={"trajectory": "t"}))
    fetch = f"curl -sS --max-time 20 http://inside.test:{port}/"
    assert (await sandbox.exec(fetch)).stdout == b"reached"
    code = f"import urllib.request as r; print(r.urlopen('http://inside.test:{port}/', timeout=20).read())"
    assert (await sandbox.exec(["python3", "-c", code])).stdout == b"b'reached'\n"
    assert (await sandbox.exec(f"curl -sS --max-time 20 http://outside.test:{port}/")).exit_code != 0
    assert (await sandbox.exec(f"curl -sS --max-time 20 http://127.0.0.1:{port}/")).exit_code != 0
    records = await sandbox.egress()
    assert {record.host for record in records if record.allowed} == {"inside.test"}
    assert "outside.test" in {record.host for record in records if not record.allowed}
    await sandbox.set_network(NetworkPolicy())
    assert (await sandbox.exec(fetch)).exit_code != 0
    server.close()


async def test_images_are_made_of_folders_and_dockerfiles_once(
    backend: DockerBackend, docker_engine: str, docker_image: str, tmp_path: Path
) -> None:
    await (await backend.create(SandboxSpec(files={"mark": b"x"}))).snapshot()
    folder = tmp_path / "image"
    for name in ("bin", "etc"):
        (folder / name).mkdir(parents=True)
    (folder / "bin" / "busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (folder / "bin" / "busybox").chmod(0o755)
    for name in ("sh", "echo", "sleep", "cat"):
        (folder / "bin" / name).symlink_to("busybox")
    one = await backend.create(SandboxSpec(image=str(folder)))
    two = await backend.create(SandboxSpec(image=str(folder)))
    assert (await one.exec("echo on")).stdout == b"on\n"
    image = [sandbox.controlled.record.labels["tumbler.sandbox.image"] for sandbox in (one, two)]
    assert image[0] == image[1]
    text = f"FROM {image[0]}\nENV MADE=yes\nWORKDIR /work\n"
    built = DockerBackend(DockerSettings(host=docker_engine, dockerfile=text, root=tmp_path / "built"))
    await built.start()
    assert (await (await built.create(SandboxSpec())).exec("echo $MADE")).stdout == b"yes\n"
    await built.close()
    for template in await backend.templates():
        await backend.delete_template(template.id)
