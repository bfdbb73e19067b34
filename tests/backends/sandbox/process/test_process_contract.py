"""The process backend keeps the complete contract, but for what only isolation can give."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest

from tumbler.contracts.sandbox import NetworkPolicy, SandboxBackend, SandboxSpec
from tumbler.testing import CompleteSandboxSuite
from tumbler_backends.sandbox.process.backend import ProcessBackend
from tumbler_backends.sandbox.process.settings import ProcessSettings

REAL_PATHS = "commands see this machine's own root file system"
AS_ROOT = {"test_commands_are_run_by_an_unprivileged_user": "commands run as this user"} if os.getuid() == 0 else {}


@pytest.mark.filterwarnings("ignore:the process backend isolates nothing:RuntimeWarning")
class TestProcessContract(CompleteSandboxSuite):
    known_failures: ClassVar = {
        "test_written_bytes_are_read_back": f"its absolute paths: {REAL_PATHS}",
        "test_links_within_the_sandbox_can_be_followed": f"its absolute links: {REAL_PATHS}",
        "test_commands_start_in_the_working_directory": f"its absolute working directory: {REAL_PATHS}",
        "test_ids_are_unique_and_sandboxes_apart": f"/tmp is shared: {REAL_PATHS}",
        **AS_ROOT,
    }

    def make_backend(self, folder: Path) -> SandboxBackend:
        root = folder / "sandboxes"
        return ProcessBackend(ProcessSettings(i_know_this_is_not_isolated=True, root=root, grace=0.2))

    def adapt(self, spec: SandboxSpec) -> SandboxSpec:
        network = NetworkPolicy(mode="public") if spec.network == NetworkPolicy() else spec.network
        return replace(spec, isolation_min="process", network=network)

    def leftovers(self, folder: Path) -> Sequence[object]:
        return list((folder / "sandboxes").iterdir())
