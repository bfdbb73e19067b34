"""`tumbler sandbox` as people use it: a service in a process of its own, and commands against it."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

TOKEN = "a-token-of-the-tests"
COMMAND = [sys.executable, "-m", "tumbler.cli.main", "sandbox"]


class Service:
    """A running `tumbler sandbox serve`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {**os.environ, "TUMBLER_SANDBOX_TOKEN": TOKEN, "OMP_NUM_THREADS": "1"}
        options = ["--backend", "bubblewrap", "--set", f"root={folder}/sandboxes", "--port", "0"]
        self.process = subprocess.Popen(
            [*COMMAND, "serve", *options], env=self.environment, cwd=folder, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert " at http://127.0.0.1:" in line, line
        self.environment["TUMBLER_SANDBOX_URL"] = line.split()[-1]

    def run(self, *words: str, given: bytes = b"", code: int = 0, env: Mapping[str, str] | None = None) -> bytes:
        """Run a command and return what it printed; its exit code must be `code`."""
        environment = {**self.environment, **(env or {})}
        done = subprocess.run(
            [*COMMAND, *words], env=environment, cwd=self.folder, input=given, capture_output=True, timeout=120
        )
        assert done.returncode == code, (done.stdout, done.stderr)
        self.errors = done.stderr.decode()
        return done.stdout

    def make(self, *options: str) -> str:
        """Make a sandbox that stays, and return its id."""
        self.run("exec", "--keep", *options, "--", "true")
        return str(json.loads(self.run("ls", "--json"))[-1]["id"])


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("service"))
    yield running
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait(60) == 0
    running.process.stdout.close()
    assert not list((running.folder / "sandboxes").iterdir())


@pytest.fixture
def box(service: Service) -> Iterator[str]:
    identity = service.make()
    yield identity
    service.run("rm", identity)


def test_a_commands_exit_code_and_streams_are_passed_on(service):
    out = service.run("exec", "--", "sh", "-c", "echo out; echo err >&2; exit 7", code=7)
    assert (out, service.errors) == (b"out\n", "err\n")
    assert service.run("exec", "--", "no-such-program", code=127) == b""


def test_standard_input_is_passed_on_to_its_end(service):
    content = bytes(range(256)) * 4000
    assert service.run("exec", "--", "cat", given=content) == content


def test_a_new_sandbox_is_gone_afterwards_and_a_kept_one_is_listed(service):
    service.run("exec", "--label", "of=exec", "--", "true")
    assert service.run("ls", "--label", "of=exec", "--json") == b"[]\n"
    identity = service.make("--name", "kept", "--label", "of=exec", "--memory", "128m")
    table = service.run("ls").decode().splitlines()
    assert table[0].split()[:3] == ["ID", "NAME", "STATE"]
    assert any(line.startswith(identity) and " kept " in line for line in table[1:])
    assert service.run("rm", "kept") == b"kept\n"
    assert b"no living sandbox" in service.run("rm", identity, code=1)


def test_commands_run_in_a_sandbox_that_is_named(service, box):
    service.run("exec", box, "--", "sh", "-c", "echo kept >file")
    options = ["--cwd", "/tmp", "--env", "A=a b"]
    assert (
        service.run("exec", box, *options, "--", "sh", "-c", 'pwd; echo "$A"; cat /work/file') == b"/tmp\na b\nkept\n"
    )


def test_a_timeout_ends_the_command_with_124(service, box):
    assert service.run("exec", box, "--timeout", "0.5", "--", "sh", "-c", "echo on; sleep 300", code=124) == b"on\n"


def test_files_and_folders_are_copied_both_ways(service, box, tmp_path):
    source = tmp_path / "source"
    (source / "sub").mkdir(parents=True)
    (source / "sub" / "file").write_bytes(bytes(range(256)) * 5000)
    (source / "script").write_text("#!/bin/sh\necho ran\n")
    (source / "script").chmod(0o755)
    service.run("cp", str(source), f"{box}:there")
    assert service.run("exec", box, "--", "there/script") == b"ran\n"
    service.run("cp", f"{box}:there", str(tmp_path / "back"))
    assert (tmp_path / "back" / "sub" / "file").read_bytes() == (source / "sub" / "file").read_bytes()
    assert os.access(tmp_path / "back" / "script", os.X_OK)
    service.run("cp", str(source / "script"), f"{box}:/tmp/")
    service.run("cp", f"{box}:/tmp/script", str(tmp_path))
    assert (tmp_path / "script").read_text() == "#!/bin/sh\necho ran\n"
    service.run("cp", "a", "b", code=2)
    service.run("cp", f"{box}:no-such-file", str(tmp_path), code=1)


def test_links_are_left_out_of_copies_in_both_directions(service, box, tmp_path):
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "link").symlink_to("/etc/passwd")
    service.run("cp", str(tmp_path / "source"), f"{box}:.", code=1)
    assert "link" in service.errors
    assert service.run("exec", box, "--", "ls", "source") == b""
    service.run("exec", box, "--", "sh", "-c", "mkdir d; ln -s /etc/passwd d/out; ln -s / d/root; echo x >d/file")
    service.run("cp", f"{box}:d", str(tmp_path), code=1)
    assert [path.name for path in (tmp_path / "d").iterdir()] == ["file"]


def test_a_shell_has_a_terminal_with_our_size_and_gives_ours_back(service, box):
    child, terminal = pty.fork()
    if child == 0:
        os.execve(sys.executable, [*COMMAND, "shell", box], {**service.environment, "COLUMNS": "", "LINES": ""})
    try:
        termios.tcsetwinsize(terminal, (31, 97))
        before = termios.tcgetattr(terminal)
        _expect(terminal, b"$ ")
        os.write(terminal, b"stty size; echo got=$((40+2))\n")
        assert b"31 97" in _expect(terminal, b"got=42")
        termios.tcsetwinsize(terminal, (33, 99))
        os.write(terminal, b"until [ \"$(stty size)\" = '33 99' ]; do sleep 0.05; done; echo re''sized\n")
        _expect(terminal, b"resized")
        os.write(terminal, b"sleep 300\n")
        time.sleep(0.3)
        os.write(terminal, b"\x03")
        os.write(terminal, b"echo inter''rupted; exit 5\n")
        _expect(terminal, b"interrupted")
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 5
        assert termios.tcgetattr(terminal)[:4] == before[:4]
    finally:
        os.close(terminal)


def _expect(terminal: int, wanted: bytes) -> bytes:
    seen, deadline = b"", time.monotonic() + 60
    while wanted not in seen:
        assert time.monotonic() < deadline, seen
        if select.select([terminal], [], [], 1)[0]:
            seen += os.read(terminal, 65536)
    return seen


def test_reaping_reports_a_count(service):
    assert service.run("reap").startswith(b"reaped: 0 sandboxes")


def test_mistakes_are_told_plainly(service, tmp_path):
    service.run("exec", "--", "true", env={"TUMBLER_SANDBOX_TOKEN": "another-wrong-token"}, code=1)
    assert service.errors.startswith("tumbler: the token is not one")
    service.run("ls", env={"TUMBLER_SANDBOX_URL": ""}, code=1)
    assert "--backend NAME" in service.errors
    service.run("ls", "--url", "http://127.0.0.1:9", "--set", "retry_seconds=0", code=1)
    assert "does not answer" in service.errors
    service.run("exec", "no-such-sandbox", "--", "true", code=1)
    assert "no-such-sandbox" in service.errors
    service.run("exec", code=2)
    service.run("ls", "--", "true", code=2)
    service.run("exec", "--memory", "much", "--", "true", code=2)
    service.run("serve", "--backend", "bubblewrap", "--host", "0.0.0.0", env={"TUMBLER_SANDBOX_TOKEN": ""}, code=1)
    assert "tenants" in service.errors
    assert "TUMBLER_SANDBOX_TOKEN" in service.errors
    assert "-- COMMAND" in service.run("exec", "--help").decode().partition("\n\n")[0]


def test_the_doctor_says_what_works_and_what_is_enforced(service):
    text = service.run("doctor", "--backend", "bubblewrap").decode()
    assert text.startswith("ok  bubblewrap")
    assert "enforces: " in text
    registry = service.folder / "broken.toml"
    registry.write_text('schema = 1\n[backends.broken]\nuse = "bubblewrap"\nbwrap = "no-such-program"\n')
    text = service.run("doctor", "--registry", str(registry), "--backend", "broken", "--json", code=1)
    (finding,) = json.loads(text)
    assert (finding["backend"], finding["works"]) == ("broken", False)
    assert "no-such-program" in finding["detail"]


def test_without_a_service_a_backend_makes_the_sandbox(service, tmp_path):
    options = ["--backend", "bubblewrap", "--set", f"root={tmp_path}/sandboxes"]
    assert service.run("exec", *options, "--", "echo", "local") == b"local\n"
    assert not list((tmp_path / "sandboxes").iterdir())
    service.run("exec", *options, "--keep", "--", "true", code=1)
    assert "--keep needs a service" in service.errors
    assert "--set owner=" in service.errors
    assert not list((tmp_path / "sandboxes").iterdir())


def test_the_sandboxes_of_an_owner_with_a_name_outlive_the_commands(service, tmp_path):
    options = ["--backend", "bubblewrap", "--set", f"root={tmp_path}/sandboxes", "--set", "owner=me"]
    service.run("exec", *options, "--keep", "--name", "kept", "--", "sh", "-c", "echo on >file")
    assert "keeping sandbox" in service.errors
    service.run("exec", *options, "--", "true")
    (tmp_path / "more").write_text("more")
    service.run("cp", *options, str(tmp_path / "more"), "kept:more")
    for _ in range(2):
        (listed,) = json.loads(service.run("ls", *options, "--json"))
        assert listed["name"] == "kept"
        assert service.run("exec", *options, "kept", "--", "cat", "file", "more") == b"on\nmore"
    assert service.run("rm", *options, "kept") == b"kept\n"
    assert not list((tmp_path / "sandboxes").iterdir())


@pytest.mark.parametrize(("on_stop", "left"), [("keep", ["kept"]), ("delete", [])])
def test_a_service_that_is_told_to_stop_keeps_what_has_a_named_owner(service, tmp_path, on_stop, left):
    options = ["--backend", "bubblewrap", "--set", f"root={tmp_path}/sandboxes"]
    words = ["serve", *options, "--owner", "lab", "--port", "0", "--service-set", f"on_stop={on_stop}"]
    with subprocess.Popen([*COMMAND, *words], env=service.environment, stdout=subprocess.PIPE, text=True) as second:
        url = second.stdout.readline().split()[-1]
        service.run("exec", "--url", url, "--keep", "--name", "kept", "--", "true")
        second.send_signal(signal.SIGTERM)
        assert second.wait(60) == 0
    options += ["--set", "owner=lab"]
    names = [each["name"].rpartition(".")[2] for each in json.loads(service.run("ls", *options, "--json"))]
    assert names == left
    service.run("rm", *options, "--all")
    assert not list((tmp_path / "sandboxes").iterdir())
