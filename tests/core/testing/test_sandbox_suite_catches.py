"""The complete sandbox suite catches each fault with the right test, and passes a sound backend."""

import asyncio
import inspect
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest

from tumbler.contracts.sandbox import NetworkPolicy
from tumbler.errors import ExecFailed
from tumbler.testing import CompleteSandboxSuite, sandbox_fixtures
from tumbler.testing.sandbox_fixtures import Boxes
from tumbler_backends.sandbox.process import backend, box, commands, files, keeping, sandbox, spawned
from tumbler_backends.sandbox.process.settings import ProcessSettings

pytestmark = pytest.mark.filterwarnings("ignore:the process backend isolates nothing:RuntimeWarning")


class Suite(CompleteSandboxSuite):
    flood_bytes = 1 << 28

    def adapt(self, spec):
        network = NetworkPolicy(mode="public") if spec.network == NetworkPolicy() else spec.network
        return replace(spec, isolation_min="process", network=network)


@pytest.fixture
def outcome(tmp_path, tmp_path_factory, monkeypatch):
    """Return a function that runs one test of the suite by hand and returns what it raised."""
    monkeypatch.setattr(sandbox_fixtures, "_PATIENCE_S", 3.0)

    async def run(name):
        suite = Suite()
        settings = ProcessSettings(i_know_this_is_not_isolated=True, root=tmp_path / "sandboxes", grace=0.1)
        started = backend.ProcessBackend(settings)
        await started.start()
        boxes = Boxes(started, suite.adapt)
        test = getattr(suite, name)
        known = {"backend": started, "managed": started, "boxes": boxes, "tmp_path_factory": tmp_path_factory}
        wanted = inspect.signature(test).parameters
        traps = None
        if "host" in wanted:
            traps = Suite.host.__wrapped__(suite, tmp_path_factory.mktemp("traps"))
            known["host"] = next(traps)
        if {"box", "sandbox", "session"} & set(wanted):
            known["box"] = known["sandbox"] = await boxes()
        if "session" in wanted:
            known["session"] = await known["sandbox"].session()
        try:
            async with asyncio.timeout(60):
                await test(**{each: known[each] for each in wanted})
            if traps is not None:
                assert next(traps, None) is None
        except (Exception, pytest.fail.Exception) as error:
            return error
        finally:
            await boxes.delete()
            await started.close()
        return None

    return run


def ignores_ids(original):
    async def spawn(self, command, *, exec_id, **options):
        return await original(self, command, exec_id=None, **options)

    return spawn


def ignores_offsets(original):
    async def read(self, stream="stdout", *, offset=0, limit=1 << 16, timeout=60.0):
        return await original(self, stream, offset=0, limit=limit, timeout=timeout)

    return read


def swallows_input(original):
    async def write_stdin(self, data):
        if not self.record.ended:
            await original(self, data)

    return write_stdin


def raises_for_exit_codes(original):
    async def execute(self, command, **options):
        result = await original(self, command, **options)
        if result.exit_code:
            raise ExecFailed("it failed")
        return result

    return execute


def kills_the_leader_alone(original):
    async def kill(self, grace=None):
        os.kill(self.program.pid, signal.SIGKILL)
        await self.program.ended(None)

    return kill


def follows_links_out(original):
    def locate(self, path, *, follow=True):
        return Path(os.path.normpath(self._root / self._workdir.lstrip("/") / path))

    return locate


def writes_in_place(original):
    async def write_stream(self, path, pieces, mode):
        place = self.locate(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        with place.open("wb") as file:
            async for piece in pieces:
                file.write(piece)
                file.flush()
        place.chmod(mode)

    return write_stream


def lists_backwards(original):
    def listed(self, path, depth):
        return original(self, path, depth)[::-1]

    return listed


def does_nothing(original):
    async def nothing(self, *arguments, **options):
        return None

    return nothing if inspect.iscoroutinefunction(original) else lambda *arguments, **options: None


def keeps_everything(original):
    def take(self, piece):
        self.__dict__.setdefault("hoard", []).append(bytes(piece))
        original(self, piece)

    return take


def forgets_the_healthcheck(original):
    async def furnish(self, made, room, source):
        room.spec = replace(room.spec, healthcheck=None)
        await original(self, made, room, source)

    return furnish


def says_nothing_of_snapshots(original):
    return property(lambda self: replace(original.fget(self), snapshots=False))


FAULTS = {
    "ids": (spawned.SpawnedProcesses, "spawn", ignores_ids, "test_starting_an_id_twice_starts_one_process"),
    "offsets": (spawned.SpawnedProcess, "read", ignores_offsets, "test_streams_are_read_from_any_offset"),
    "stdin": (spawned.SpawnedProcess, "write_stdin", swallows_input, "test_stdin_of_an_ended_process_is_a_broken_pipe"),
    "raises": (
        sandbox.ProcessSandbox,
        "exec",
        raises_for_exit_codes,
        "test_defect_exception_on_a_failing_command",
    ),
    "orphans": (box.BoxProgram, "kill", kills_the_leader_alone, "test_killing_ends_the_whole_tree"),
    "traps read": (files.ProcessFiles, "locate", follows_links_out, "test_nothing_is_read_through_a_trap"),
    "traps changed": (files.ProcessFiles, "locate", follows_links_out, "test_nothing_is_changed_through_a_trap"),
    "half files": (
        files.ProcessFiles,
        "write_stream",
        writes_in_place,
        "test_a_streamed_file_appears_only_when_it_is_whole",
    ),
    "order": (files.ProcessFiles, "list", lists_backwards, "test_a_folder_is_listed_with_what_each_entry_is"),
    "pause": (sandbox.ProcessSandbox, "pause", does_nothing, "test_a_pause_freezes_all_processes"),
    "extend": (keeping.Keeper, "extend", does_nothing, "test_a_life_can_be_made_longer_and_shorter"),
    "names": (keeping.Keeper, "find", does_nothing, "test_a_name_belongs_to_one_living_sandbox"),
    "counts": (keeping.Counts, "started", does_nothing, "test_what_happens_is_counted"),
    "limits": (backend, "require_possible", does_nothing, "test_limits_that_cannot_be_enforced_are_refused"),
    "health": (
        backend.ProcessBackend,
        "_furnish",
        forgets_the_healthcheck,
        "test_a_healthcheck_that_fails_is_a_failed_start",
    ),
    "flood": (commands.Collector, "take", keeps_everything, "test_a_flood_of_output_takes_bounded_memory"),
    "undeclared": (
        backend.ProcessBackend,
        "capabilities",
        says_nothing_of_snapshots,
        "test_forks_are_sandboxes_of_their_own",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_suite_catches(outcome, monkeypatch, fault):
    place, name, breaking, test = FAULTS[fault]
    assert await outcome(test) is None
    monkeypatch.setattr(place, name, breaking(getattr(place, name)))
    assert await outcome(test) is not None
