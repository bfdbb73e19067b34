"""The backend keeps the contract of inference backends, its servers' engine the tiny one."""

import pytest

from tumbler.testing import InferenceSuite
from tumbler_backends.inference.vllm.backend import VllmInference
from tumbler_backends.inference.vllm.settings import VllmSettings


class TestOneServer(InferenceSuite):
    @pytest.fixture
    def make_backend(self, double, tmp_path):
        return lambda: VllmInference(VllmSettings(python=double, transfer_folder=tmp_path / "transfer"))

    @pytest.fixture
    def model_folder(self, models):
        return models[0]


class TestTwoServersThatDrain(TestOneServer):
    @pytest.fixture
    def make_backend(self, double, tmp_path):
        settings = VllmSettings(
            python=double, transfer_folder=tmp_path / "transfer", replicas=2, on_update="drain", engine={"delay": 0.001}
        )
        return lambda: VllmInference(settings)
