"""The unmodified E2B SDK against the front end: what its documentation shows first, in both flavours."""

import asyncio
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator

import pytest
from e2b import (
    AsyncSandbox,
    AuthenticationException,
    CommandExitException,
    FileNotFoundException,
    FilesystemEventType,
    FileType,
    InvalidArgumentException,
    NotFoundException,
    PtySize,
    Sandbox,
    SandboxException,
    SandboxNotRunningException,
    SandboxQuery,
    TimeoutException,
)

from tumbler.testing.sandbox_fixtures import eventually


@pytest.fixture
def options(front_end):
    return {"api_key": front_end.key, "api_url": front_end.url, "sandbox_url": front_end.url}


@pytest.fixture
def box(options) -> Iterator[Sandbox]:
    sandbox = Sandbox.create(timeout=300, metadata={"what": "a test"}, envs={"X": "of the box"}, **options)
    yield sandbox
    sandbox.kill()


@pytest.fixture
async def async_box(options) -> AsyncIterator[AsyncSandbox]:
    sandbox = await AsyncSandbox.create(timeout=300, metadata={"what": "async"}, **options)
    yield sandbox
    await sandbox.kill()


# commands


def test_a_command_has_streams_an_exit_code_and_variables(box):
    result = box.commands.run('echo "$X $Y"; echo err >&2; pwd', envs={"Y": "of the call"})
    assert (result.exit_code, result.stdout, result.stderr) == (0, "of the box of the call\n/home/user\n", "err\n")
    with pytest.raises(CommandExitException) as failed:
        box.commands.run("echo why >&2; exit 3")
    assert (failed.value.exit_code, failed.value.stderr) == (3, "why\n")


def test_output_comes_to_callbacks_while_the_command_runs(box):
    pieces = []

    def take(piece: str) -> None:
        pieces.append(piece)
        box.files.write("seen", "x")

    box.commands.run("echo first; until [ -e seen ]; do sleep 0.02; done; echo second", on_stdout=take)
    assert pieces == ["first\n", "second\n"]


def test_a_command_in_the_background_is_listed_fed_and_killed(box):
    handle = box.commands.run("read x; echo got $x; sleep 300", background=True, stdin=True)
    (listed,) = box.commands.list()
    assert (listed.pid, listed.args[-1]) == (handle.pid, "read x; echo got $x; sleep 300")
    box.commands.send_stdin(handle.pid, "a word\n")
    for stdout, _, _ in handle:
        assert stdout == "got a word\n"
        break
    assert box.commands.kill(handle.pid)
    with pytest.raises(CommandExitException):
        handle.wait()
    assert not box.commands.kill(handle.pid)
    assert box.commands.list() == []


def test_stdin_is_closed_and_streamed(box):
    handle = box.commands.run("wc -c", background=True, stdin=True)
    box.commands.send_stdin(handle.pid, "12345")
    box.commands.close_stdin(handle.pid)
    assert handle.wait().stdout.strip() == "5"


def test_a_disconnected_command_goes_on_and_is_connected_to_again(box):
    handle = box.commands.run("until [ -e go ]; do sleep 0.02; done; echo on; exit 4", background=True)
    handle.disconnect()
    again = box.commands.connect(handle.pid)
    box.files.write("go", "")
    with pytest.raises(CommandExitException) as ended:
        again.wait()
    assert (ended.value.exit_code, ended.value.stdout) == (4, "on\n")
    with pytest.raises(CommandExitException) as late:
        box.commands.connect(handle.pid).wait()
    assert late.value.exit_code == 4


async def test_a_deadline_kills_the_command(async_box):
    with pytest.raises(TimeoutException):
        await async_box.commands.run("while :; do date +%N >beat; sleep 0.02; done", timeout=0.5)

    async def ended() -> bool:
        return await async_box.commands.list() == []

    await eventually(ended, "the command should be killed")


def test_a_missing_folder_is_an_invalid_argument(box):
    with pytest.raises(InvalidArgumentException, match="does not exist"):
        box.commands.run("true", cwd="/no/such/folder")
    assert box.commands.run("pwd", cwd="/tmp").stdout == "/tmp\n"


def test_another_user_is_refused_and_not_replaced(box):
    assert box.commands.run("echo on", user="user").stdout == "on\n"
    with pytest.raises(InvalidArgumentException, match="root"):
        box.commands.run("true", user="root")


async def test_a_terminal_takes_keys_and_changes_its_size(async_box):
    said = bytearray()
    terminal = await async_box.pty.create(PtySize(rows=30, cols=100), on_data=said.extend, timeout=60)
    await async_box.pty.resize(terminal.pid, PtySize(rows=40, cols=120))
    await async_box.pty.send_stdin(terminal.pid, b"stty size; exit 5\n")
    with pytest.raises(CommandExitException) as ended:
        await terminal.wait()
    assert ended.value.exit_code == 5
    assert b"40 120" in said


async def test_a_stream_of_input_keeps_its_order(async_box):
    handle = await async_box.commands.run("cat", background=True, stdin=True)
    async with async_box.commands.stream_input(handle.pid) as stream:
        for number in range(50):
            await stream.send(f"{number}\n")
    await async_box.commands.close_stdin(handle.pid)
    assert (await handle.wait()).stdout == "".join(f"{number}\n" for number in range(50))


async def test_the_async_sdk_runs_commands_in_parallel(async_box):
    first = async_box.commands.run("touch a; until [ -e b ]; do sleep 0.02; done; echo 1")
    second = async_box.commands.run("touch b; until [ -e a ]; do sleep 0.02; done; echo 2")
    assert [result.stdout for result in await asyncio.gather(first, second)] == ["1\n", "2\n"]


# files


def test_files_are_written_read_listed_renamed_and_removed(box):
    info = box.files.write("dir/file.txt", "text ü")
    assert (info.name, info.type, info.path) == ("file.txt", FileType.FILE, "/home/user/dir/file.txt")
    assert box.files.read("dir/file.txt") == "text ü"
    assert box.files.read("/home/user/dir/file.txt", format="bytes") == "text ü".encode()
    assert b"".join(box.files.read("dir/file.txt", format="stream")) == "text ü".encode()
    assert box.files.exists("dir")
    assert not box.files.exists("nowhere")
    assert box.files.make_dir("dir/sub")
    assert not box.files.make_dir("dir/sub")
    entries = {entry.name: entry for entry in box.files.list("dir")}
    assert {name: entry.type for name, entry in entries.items()} == {"file.txt": FileType.FILE, "sub": FileType.DIR}
    assert (entries["file.txt"].size, entries["file.txt"].permissions) == (7, "-rw-r--r--")
    assert box.files.rename("dir/file.txt", "dir/sub/moved").path == "/home/user/dir/sub/moved"
    assert [entry.name for entry in box.files.list("dir", depth=2)] == ["sub", "moved"]
    box.files.remove("dir")
    box.files.remove("dir")
    assert not box.files.exists("dir")


def test_many_files_and_any_bytes_are_uploaded_in_every_form(box, tmp_path):
    content = bytes(range(256)) * 1000
    box.files.write_files([{"path": "one", "data": content}, {"path": "two", "data": "2"}])
    box.files.write("packed", content, gzip=True)
    box.files.write("plain", content, use_octet_stream=True)
    source = tmp_path / "source"
    source.write_bytes(content)
    with source.open("rb") as stream:
        box.files.write("streamed", stream)
    for name in ("one", "packed", "plain", "streamed"):
        assert box.files.read(name, format="bytes") == content, name
    assert box.files.read("one", format="bytes", gzip=True) == content
    assert box.files.read("two") == "2"


def test_what_is_wrong_with_a_path_is_told(box):
    with pytest.raises(FileNotFoundException):
        box.files.read("missing")
    with pytest.raises(NotFoundException):
        box.files.list("missing")
    box.files.make_dir("folder")
    with pytest.raises(InvalidArgumentException, match="is a directory"):
        box.files.read("folder")
    with pytest.raises(InvalidArgumentException):
        box.files.write("folder", "x")
    box.files.write("file", "x")
    with pytest.raises(InvalidArgumentException, match="not a directory"):
        box.files.make_dir("file")


def test_a_link_is_described_with_what_it_leads_to(box):
    box.commands.run("ln -s target link")
    info = box.files.get_info("link")
    assert (info.type, info.symlink_target) == (FileType.SYMLINK, "target")


def test_a_watched_folder_is_asked_for_news(box):
    box.files.make_dir("watched")
    watcher = box.files.watch_dir("watched", recursive=True)
    box.files.write("watched/file", "x")
    seen: set = set()
    over = threading.Event()
    while ("file", FilesystemEventType.CREATE) not in seen:
        seen |= {(event.name, event.type) for event in watcher.get_new_events()}
        assert not over.wait(0.05)
    watcher.stop()
    with pytest.raises(NotFoundException):
        box.files.watch_dir("nowhere")


async def test_a_watched_folder_tells_news_as_they_come(async_box):
    await async_box.files.make_dir("watched")
    events = []
    handle = await async_box.files.watch_dir("watched", on_event=events.append, include_entry=True)
    await async_box.files.write("watched/file", "x")

    async def told() -> bool:
        return any(event.name == "file" and event.entry is not None for event in events)

    await eventually(told, "the new file should be told")
    await handle.stop()


def test_a_signed_address_serves_one_file_to_anybody(box):
    box.files.write("shown", "to all")
    address = box.download_url("shown", use_signature_expiration=60)
    with urllib.request.urlopen(address) as answer:
        assert answer.read() == b"to all"
    for wrong in (
        address.replace("shown", "other"),
        address[:-1] + "0",
        box.download_url("shown").replace("v1_", "v1_x"),
    ):
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.urlopen(wrong)
        assert refused.value.code == 401
        refused.value.close()


# life


def test_a_sandbox_is_found_connected_to_and_killed(options, box, front_end):
    page = Sandbox.list(query=SandboxQuery(metadata={"what": "a test"}), **options).next_items()
    assert [(info.sandbox_id, info.metadata) for info in page] == [(box.sandbox_id, {"what": "a test"})]
    box.files.write("file", "mine")
    assert Sandbox.connect(box.sandbox_id, **options).files.read("file") == "mine"
    box.set_timeout(2000)
    info = box.get_info()
    assert (info.end_at - info.started_at).total_seconds() > 1900
    assert box.is_running()
    others = {**options, "api_key": front_end.other_key}
    assert Sandbox.list(**others).next_items() == []
    assert not Sandbox.kill(box.sandbox_id, **others)
    assert box.kill()
    assert not box.is_running()
    with pytest.raises(SandboxNotRunningException):
        box.commands.run("true")
    with pytest.raises(NotFoundException):
        Sandbox.connect(box.sandbox_id, **options)


def test_a_list_comes_in_pages(options):
    made = [Sandbox.create(metadata={"paged": "yes"}, **options) for _ in range(3)]
    pages = Sandbox.list(query=SandboxQuery(metadata={"paged": "yes"}), limit=2, order="asc", **options)
    found = [[info.sandbox_id for info in pages.next_items()] for _ in range(2)]
    assert found == [[made[0].sandbox_id, made[1].sandbox_id], [made[2].sandbox_id]]
    assert not pages.has_next
    for sandbox in made:
        sandbox.kill()


def test_one_key_makes_one_sandbox(options):
    first, second = (Sandbox.create(idempotency_key="same-key", **options) for _ in range(2))
    assert first.sandbox_id == second.sandbox_id
    first.kill()


def test_a_pause_and_a_resume(options, box):
    box.files.write("file", "kept")
    assert box.pause()
    assert not box.pause()
    assert box.get_info().state.value == "paused"
    assert box.connect().files.read("file") == "kept"


def test_snapshots_and_forks_have_the_files(options, box, front_end):
    box.files.write("file", "kept")
    snapshot = box.create_snapshot()
    others = {**options, "api_key": front_end.other_key}
    assert Sandbox.list_snapshots(**others).next_items() == []
    assert not Sandbox.delete_snapshot(snapshot.snapshot_id, **others)
    assert snapshot.snapshot_id in [each.snapshot_id for each in box.list_snapshots().next_items()]
    copy = Sandbox.create(snapshot.snapshot_id, **options)
    forks = box.fork(count=2)
    assert [each.files.read("file") for each in (copy, *forks)] == ["kept"] * 3
    for each in (copy, *forks):
        each.kill()
    assert Sandbox.delete_snapshot(snapshot.snapshot_id, **options)
    assert not Sandbox.delete_snapshot(snapshot.snapshot_id, **options)


def test_use_is_measured(box):
    box.commands.run("true")
    (sample,) = box.get_metrics()
    assert sample.mem_used >= 0
    assert sample.cpu_count == 1


def test_what_is_not_offered_is_refused(options, front_end):
    with pytest.raises(SandboxException, match="no-such-template"):
        Sandbox.create("no-such-template", **options)
    with pytest.raises(SandboxException, match="time-out"):
        Sandbox.create(lifecycle={"on_timeout": "pause"}, **options)
    with pytest.raises(AuthenticationException):
        Sandbox.create(**{**options, "api_key": "wrong"})
    with pytest.raises(SandboxException, match="longer"):
        Sandbox.create(timeout=10_000_000, **options)
