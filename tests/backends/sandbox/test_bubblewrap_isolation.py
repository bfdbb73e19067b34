import asyncio
import errno
import os
import signal
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import Resources, SandboxSpec
from tumbler.errors import CapabilityError
from tumbler_backends.sandbox.bubblewrap.backend import BubblewrapBackend
from tumbler_backends.sandbox.bubblewrap.limits.syscall_table import DENIED, NUMBERS
from tumbler_backends.sandbox.bubblewrap.settings import BubblewrapSettings

WRITABLE_PROC_FILES = """
import os
for folder, folders, files in os.walk("/proc"):
    if folder.count("/") > 1 and folder.split("/")[2].isdigit():
        folders.clear()
        continue
    for file in files:
        try:
            os.close(os.open(os.path.join(folder, file), os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            continue
        print(os.path.join(folder, file))
"""


async def python(box, code, **options):
    result = await box.exec(["python3", "-I", "-c", code], **options)
    assert not result.timed_out
    return result


async def test_files_of_the_host_outside_of_usr_are_invisible(box, tmp_path):
    (tmp_path / "secret").write_text("secret")
    result = await box.exec(["cat", str(tmp_path / "secret"), "/etc/shadow", "/proc/1/root" + str(tmp_path / "secret")])
    assert (result.exit_code, result.stdout) == (1, b"")
    top = (await box.exec("ls /")).stdout.split()
    assert set(top) <= set(b"bin dev etc home lib lib32 lib64 libx32 proc run sbin tmp usr work".split())


async def test_nothing_but_the_sandboxes_own_folders_can_be_written(box):
    result = await box.exec("for d in / /usr /etc /dev /run /run/tumbler /proc /home; do touch $d/x && echo $d; done")
    assert result.stdout == b""
    assert (await box.exec("touch /work/x /tmp/x ~/x /dev/shm/x && echo all")).stdout == b"all\n"


async def test_no_switch_of_the_kernel_can_be_opened_for_writing(box):
    result = await python(box, WRITABLE_PROC_FILES)
    assert (result.stdout, result.stderr) == (b"", b"")


async def test_signals_that_this_process_ignores_are_not_ignored_inside(bubblewrap):
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGINT)}
    try:
        box = await bubblewrap.create(SandboxSpec())
        ignored = (await box.exec("grep SigIgn /proc/self/status")).stdout.split()[1]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert int(ignored, 16) & 0b11 == 0
    await box.delete()


async def test_processes_of_the_host_are_invisible_and_out_of_reach(box):
    seen = (await box.exec("ls /proc | grep -c '^[0-9]'")).stdout
    assert int(seen) <= 5
    assert (await box.exec(["sh", "-c", f"kill -0 {os.getpid()}"])).exit_code != 0


async def test_the_user_is_not_root_and_holds_no_capability(box):
    assert (await box.exec("id -u; id -g; whoami")).stdout == b"1000\n1000\nsandbox\n"
    status = dict(
        line.split(":\t", 1) for line in (await box.exec("cat /proc/self/status")).stdout.decode().splitlines()
    )
    assert {status[f"Cap{kind}"] for kind in ("Inh", "Prm", "Eff", "Bnd", "Amb")} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


async def test_descriptors_of_the_owner_are_closed(bubblewrap, tmp_path):
    (tmp_path / "open").write_text("secret")
    descriptor = os.open(tmp_path / "open", os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    sandbox = await bubblewrap.create(SandboxSpec())
    try:
        assert (await sandbox.exec("ls /proc/self/fd")).stdout.split() == [b"0", b"1", b"2", b"3"]
        session = await sandbox.session()
        assert (await session.run("ls /proc/self/fd")).stdout.split() == [b"0", b"1", b"2", b"3"]
    finally:
        os.close(descriptor)
        await sandbox.delete()


async def test_the_hosts_loopback_is_out_of_reach(box):
    server = await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    result = await box.exec(["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{port}"])
    server.close()
    await server.wait_closed()
    assert result.exit_code != 0
    assert b"refused" in result.stderr


async def test_abstract_sockets_of_the_host_are_out_of_reach(box):
    name = f"\0tumbler-test-{os.getpid()}"
    server = await asyncio.start_unix_server(lambda reader, writer: writer.close(), name)
    code = f"import socket; socket.socket(socket.AF_UNIX).connect({name!r})"
    result = await python(box, code)
    server.close()
    await server.wait_closed()
    assert b"ConnectionRefusedError" in result.stderr


async def test_raw_and_foreign_sockets_cannot_be_made(box):
    code = """
import socket
for family, kind in ((2, 3), (17, 3), (40, 1), (38, 5)):
    try:
        socket.socket(family, kind, 1)
    except OSError as error:
        print(error.errno)
"""
    numbers = [int(line) for line in (await python(box, code)).stdout.split()]
    assert numbers == [errno.EPERM, errno.EAFNOSUPPORT, errno.EAFNOSUPPORT, errno.EAFNOSUPPORT]


async def test_every_denied_call_fails_with_eperm(box):
    column = {"x86_64": 0, "aarch64": 1}[os.uname().machine]
    numbers = {name: NUMBERS[name][column] for name in DENIED if NUMBERS[name][column] is not None}
    code = f"""
import ctypes
call = ctypes.CDLL(None, use_errno=True).syscall
for name, number in {numbers!r}.items():
    if call(number, -1, -1, -1, -1, -1, -1) != -1 or ctypes.get_errno() != 1:
        print(name, ctypes.get_errno())
"""
    assert (await python(box, code)).stdout == b""


async def test_namespaces_and_terminal_injection_are_denied(box):
    assert (await box.exec(["unshare", "-U", "true"])).exit_code != 0
    code = "import fcntl; fcntl.ioctl(0, 0x5412, b'x')"
    assert b"PermissionError" in (await python(box, code)).stderr


async def test_a_fork_bomb_is_bounded(bubblewrap):
    sandbox = await bubblewrap.create(SandboxSpec(resources=Resources(processes=24)))
    bomb = """
import os, time
for count in range(200):
    try:
        if os.fork() == 0:
            time.sleep(60)
            os._exit(0)
    except OSError as error:
        print(error.errno, count < 24)
        break
"""
    assert (await python(sandbox, bomb)).stdout == f"{errno.EAGAIN} True\n".encode()
    session = await sandbox.session()
    counted = await session.run("for i in $(seq 200); do sleep 60 & done; jobs -p | wc -l", timeout=2)
    assert b"Resource temporarily unavailable" in counted.stderr
    assert (await sandbox.exec("echo usable")).exit_code in (0, 2)
    await session.close()
    assert (await sandbox.exec("echo usable")).stdout == b"usable\n"
    await sandbox.delete()


async def test_a_memory_bomb_is_killed_and_said_so(bubblewrap):
    sandbox = await bubblewrap.create(SandboxSpec(resources=Resources(memory_bytes=64 << 20)))
    result = await sandbox.exec(["python3", "-I", "-c", "print('started', flush=True); b'x' * (1 << 30)"])
    assert (result.stdout, result.exit_code, result.signal, result.oom) == (b"started\n", 137, 9, True)
    later = await sandbox.exec("exit 3")
    assert (later.exit_code, later.oom) == (3, False)
    assert bubblewrap.metrics.out_of_memory_kills >= 1
    await sandbox.delete()


async def test_files_and_shared_memory_are_bounded(tmp_path):
    settings = BubblewrapSettings(root=tmp_path / "sandboxes", file_bytes=1 << 20, shared_memory_bytes=1 << 20)
    backend = BubblewrapBackend(settings)
    await backend.start()
    sandbox = await backend.create(SandboxSpec(resources=Resources(open_files=300)))
    for place in ("/work/large", "/dev/shm/large"):
        assert (await sandbox.exec(["head", "-c", "3000000", "/dev/zero"])).exit_code == 0
        kept = await sandbox.exec(f"head -c 3000000 /dev/zero >{place} || wc -c <{place}")
        assert 0 < int(kept.stdout) <= 1 << 20
    assert (await sandbox.exec("ulimit -Hn; ulimit -Hc")).stdout == b"300\n0\n"
    await backend.close()


async def test_what_cannot_be_enforced_is_refused_all_at_once(bubblewrap):
    spec = SandboxSpec(resources=Resources(disk_bytes=1, gpus=1), isolation_min="vm", image="python:3.12")
    with pytest.raises(CapabilityError, match=r"vm.*disk_bytes.*gpus.*python:3\.12"):
        await bubblewrap.create(spec)
    for workdir in ("relative", "/", "/usr/x", "/proc", "/dev/../etc"):
        with pytest.raises(CapabilityError, match="workdir"):
            await bubblewrap.create(SandboxSpec(workdir=workdir))


async def test_a_preloaded_library_of_the_spec_never_reaches_bwrap(bubblewrap, tmp_path):
    sandbox = await bubblewrap.create(SandboxSpec(env={"LD_PRELOAD": str(tmp_path / "evil.so"), "LD_DEBUG": "files"}))
    result = await sandbox.exec("env")
    assert b"bwrap" not in result.stderr
    await sandbox.delete()


async def test_a_folder_serves_as_image(bubblewrap, tmp_path):
    image = await _image(tmp_path / "image")
    sandbox = await bubblewrap.create(SandboxSpec(image=str(image), workdir="/home/user/project"))
    result = await sandbox.exec(
        "echo /*; cat /home/user/note; pwd; echo x >file; echo changed >/home/user/note; cat /home/user/note"
    )
    lines = result.stdout.decode().splitlines()
    assert "/usr" not in lines[0].split()
    assert lines[1:] == ["from the image", "/home/user/project", "changed"]
    assert await sandbox.read("file") == b"x\n"
    assert (image / "home/user/note").read_text() == "from the image\n"
    await sandbox.delete()


async def _image(folder: Path) -> Path:
    """Build a root folder of the host's shell and cat, and what they link to."""
    for program in ("/bin/sh", "/bin/cat"):
        process = await asyncio.create_subprocess_exec("ldd", program, stdout=asyncio.subprocess.PIPE)
        listed, _ = await process.communicate()
        needed = [word for word in listed.decode().split() if word.startswith("/")]
        for file in (program, *needed):
            target = folder / file.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(Path(file).read_bytes())
            target.chmod(0o755)
    (folder / "home/user").mkdir(parents=True)
    (folder / "home/user/note").write_text("from the image\n")
    return folder
