"""The first-party algorithms keep the contract of algorithms, in each of their main settings."""

import pytest

from tumbler.testing import AlgorithmSuite
from tumbler_algorithms.grpo.algorithm import GRPO
from tumbler_algorithms.grpo.settings import GRPOSettings
from tumbler_algorithms.ipa.algorithm import IPA
from tumbler_algorithms.ipa.settings import IPASettings


class TestIPA(AlgorithmSuite):
    @pytest.fixture
    def algorithm(self):
        return IPA(IPASettings())


class TestGRPO(AlgorithmSuite):
    @pytest.fixture
    def algorithm(self):
        return GRPO(GRPOSettings())


class TestDrGRPO(AlgorithmSuite):
    @pytest.fixture
    def algorithm(self):
        return GRPO(GRPOSettings(divide_by_std=False, normalisation="constant", constant_length=64))


class TestDAPO(AlgorithmSuite):
    @pytest.fixture
    def algorithm(self):
        return GRPO(GRPOSettings(clip_high=0.28, normalisation="token-mean", kl_weight=0.1))
