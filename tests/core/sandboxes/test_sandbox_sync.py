"""The façade without `async` does what the asynchronous objects do."""

import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

import tumbler.sandboxes
from tumbler.contracts import sandbox, sandbox_control, sandbox_files, sandbox_process
from tumbler.contracts.sandbox_process import TerminalSize
from tumbler.errors import CapabilityError, SandboxDied, SandboxUnavailable, SessionEnded
from tumbler.sandboxes import SyncBackend, SyncProcess, SyncSandbox, SyncSession
from tumbler.testing import MemorySandboxBackend
from tumbler_backends.sandbox.process.backend import ProcessBackend

pytestmark = pytest.mark.filterwarnings("ignore:the process backend isolates nothing:RuntimeWarning")


@pytest.fixture
def backend(process_settings):
    with SyncBackend(ProcessBackend(process_settings)) as backend:
        yield backend


def public(*classes):
    return {name for each in classes for base in each.__mro__ for name in vars(base) if not name.startswith("_")}


def test_every_method_of_the_contracts_is_there():
    assert public(sandbox_control.CompleteSandbox) <= public(SyncSandbox)
    assert public(sandbox.Session, sandbox_process.InteractiveSession) <= public(SyncSession)
    assert public(sandbox_process.Process) <= public(SyncProcess)
    assert public(sandbox_control.ManagedBackend) <= public(SyncBackend)
    assert public(sandbox_files.FilesSandbox) <= public(SyncSandbox)


def test_every_public_name_is_there():
    assert sorted(tumbler.sandboxes._MODULES) == sorted(tumbler.sandboxes.__all__) == dir(tumbler.sandboxes)
    for name in tumbler.sandboxes.__all__:
        assert getattr(tumbler.sandboxes, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        tumbler.sandboxes.Nothing  # noqa: B018


def test_commands_files_and_copies(backend, spec, tmp_path):
    with backend.create(spec) as box:
        box.write("d/file", b"1")
        assert box.exec("cat d/file", check=True).stdout == box.read("d/file") == b"1"
        box.write_stream("large", (bytes(1 << 20) for _ in range(3)))
        assert sum(len(piece) for piece in box.read_stream("large")) == 3 << 20
        assert [entry.name for entry in box.glob("**/f*")] == ["file"]
        box.move("d/file", "e")
        box.mkdir("empty")
        box.remove("empty")
        assert box.stat("e").size == 1
        assert box.download("e", tmp_path / "e").files == box.upload(tmp_path / "e", "f").files == 1
        (fork,) = box.fork()
        assert fork.read("f") == b"1"
        template = box.snapshot()
        assert [each.id for each in backend.templates()] == [template.id]
        assert box.info().state == "running"
        assert backend.get(box.id).id in {info.id for info in backend.list()}
        assert box.alive()
    assert not box.alive()
    with pytest.raises(SandboxDied):
        box.exec("true")


def test_processes_and_sessions(backend, spec):
    with backend.create(spec) as box:
        process = box.spawn("read x; echo $x; exit 4", stdin=True, exec_id="p")
        assert process.poll() is None
        box.process("p").write_stdin(b"said\n")
        assert process.wait(30).exit_code == 4
        assert b"".join(process.follow()) == b"said\n"
        assert [info.exec_id for info in box.processes()] == ["p"]
        with box.session() as session:
            session.run("cd /; X=1")
            session.start("read y; echo $X$y")
            session.send(b"2\n")
            assert session.expect(b"1.") == b"12"
            assert session.finish().exit_code == 0
            session.interrupt()
        with pytest.raises(SessionEnded):
            session.run("true")
        terminal = box.spawn("stty size", pty=TerminalSize(columns=90, rows=10))
        terminal.wait(30)
        assert terminal.read().data.split() == [b"10", b"90"]


def test_a_watch_can_be_left(backend, spec):
    with backend.create(spec) as box:
        writer = box.spawn("while :; do echo >new; rm new; sleep 0.05; done")
        for event in box.watch("."):
            assert event.path == "/work/new"
            break
        writer.kill()


def test_an_error_in_the_loop_is_the_callers(backend, spec):
    with backend.create(spec) as box:
        with pytest.raises(FileNotFoundError):
            box.read("missing")
        with pytest.raises(FileNotFoundError):
            list(box.read_stream("missing"))


def test_a_backend_must_be_started(process_settings, spec):
    with pytest.raises(SandboxUnavailable, match="not started"):
        SyncBackend(ProcessBackend(process_settings)).create(spec)


def test_what_a_plain_sandbox_lacks_is_said():
    with SyncBackend(MemorySandboxBackend()) as backend:
        box = backend.create()
        assert box.exec("echo on").stdout == b"on\n"
        with pytest.raises(CapabilityError, match="MemorySandbox offers only a part of CompleteSandbox; it lacks"):
            box.list()
        with pytest.raises(CapabilityError, match="lacks: attach, delete_template, get"):
            backend.list()


def test_cleaning_up_closes_what_is_open(process_settings, spec):
    backend = SyncBackend(ProcessBackend(process_settings))
    backend.start()
    backend.create(spec)
    assert list(process_settings.root.iterdir())
    tumbler.sandboxes.cleanup()
    assert not list(process_settings.root.iterdir())
    backend.close()


def test_the_interpreters_end_leaves_nothing(tmp_path):
    script = """
        import sys, warnings
        from pathlib import Path
        warnings.simplefilter("ignore")
        from tumbler.contracts.sandbox import NetworkPolicy, SandboxSpec
        from tumbler.sandboxes import SyncBackend
        from tumbler_backends.sandbox.process.backend import ProcessBackend
        from tumbler_backends.sandbox.process.settings import ProcessSettings
        backend = SyncBackend(ProcessBackend(ProcessSettings(i_know_this_is_not_isolated=True, root=Path(sys.argv[1]))))
        backend.start()
        box = backend.create(SandboxSpec(isolation_min="process", network=NetworkPolicy(mode="public")))
        process = box.spawn("echo $$; trap '' TERM; while :; do sleep 1; done")
        print(process.read().data.decode().strip())
    """
    run = subprocess.run(
        [sys.executable, "-c", dedent(script), str(tmp_path / "s")],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert run.stderr == ""
    assert list((tmp_path / "s").iterdir()) == []
    assert not Path(f"/proc/{run.stdout.strip()}").exists()
