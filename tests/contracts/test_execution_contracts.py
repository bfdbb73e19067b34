"""The first-party execution backends keep the contract of execution backends."""

import pytest

from tumbler.testing import ExecutionSuite
from tumbler_backends.execution.local.backend import LocalExecution
from tumbler_backends.execution.local.settings import LocalSettings


class TestLocal(ExecutionSuite):
    @pytest.fixture
    def make_backend(self):
        return lambda: LocalExecution(LocalSettings())
