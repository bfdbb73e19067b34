"""The first-party environments, and the kit's own, keep the contract of environments."""

import asyncio
from importlib.metadata import entry_points

import pytest

from tumbler.testing import EnvironmentSuite, TwoStepEnvironment, TwoStepSettings
from tumbler_envs.trail.environment import TrailEnvironment
from tumbler_envs.trail.settings import TrailSettings


class TestTwoStep(EnvironmentSuite):
    @pytest.fixture
    def make_environment(self):
        return lambda: TwoStepEnvironment(TwoStepSettings())


class TestTrailInItsTwin(EnvironmentSuite):
    @pytest.fixture
    def make_environment(self):
        return lambda: TrailEnvironment(TrailSettings(shell="twin"))


class TestTrailWithNoise(EnvironmentSuite):
    @pytest.fixture
    def make_environment(self):
        return lambda: TrailEnvironment(TrailSettings(shell="twin", noise=0.3))


class TestTrailInASandbox(EnvironmentSuite):
    @pytest.fixture
    def make_environment(self):
        return lambda: TrailEnvironment(TrailSettings(steps=(3, 3)))

    @pytest.fixture
    def sandboxes(self):
        (point,) = entry_points(group="tumbler.v1", name="bubblewrap")
        (spec,) = point.load().tumbler_backends()
        backend = spec.load()(spec.config()())
        asyncio.run(backend.start())
        yield backend
        asyncio.run(backend.close())
