"""Every peer of IPA keeps the contract of algorithms, in each of its main settings."""

import importlib

import pytest

from tumbler.contracts.algorithm import BatchCredit, FilteringAlgorithm
from tumbler.testing import AlgorithmSuite

VARIANTS = {
    "reinforce": ("reinforce", {}),
    "rloo": ("reinforce", {"baseline": "leave-one-out"}),
    "reinforce++": ("reinforce", {"group_size": 1, "whiten": "tokens"}),
    "batch-mean": ("reinforce", {"baseline": "batch-mean", "turn_rewards": "add"}),
    "dapo": (
        "grpo",
        {
            "clip_high": 0.28,
            "normalisation": "token-mean",
            "dynamic_sampling": True,
            "length_limit": 9,
            "length_buffer": 4,
        },
    ),
    "sequence-grpo": ("grpo", {"ratio_level": "trajectory", "kl_weight": 0.1, "kl_reference": "initial"}),
    "gspo": ("gspo", {}),
    "gspo-token": ("gspo", {"variant": "token"}),
    "ppo": ("ppo", {}),
    "ppo-entropy": ("ppo", {"entropy_weight": 0.01, "value_clip": None, "dual_clip": 3.0}),
    "tis": ("tis", {}),
    "topr": ("topr", {}),
    "cispo": ("cispo", {}),
    "gigpo": ("gigpo", {}),
    "gigpo-history": ("gigpo", {"state": "history", "divide_by_std": False}),
    "ipa-token": ("ipa_token", {}),
    "ipa-trajectory": ("ipa_trajectory", {"failure_reward": -1.0, "correction": {"weight": "trajectory"}}),
}


def build(name):
    package, fields = VARIANTS[name]
    (spec,) = importlib.import_module(f"tumbler_algorithms.{package}.plugin").tumbler_algorithms()
    return spec.load()(spec.config()(**fields))


class TestPeers(AlgorithmSuite):
    @pytest.fixture(params=VARIANTS)
    def algorithm(self, request):
        return build(request.param)


def test_only_what_looks_across_groups_or_refuses_rollouts_says_so():
    assert {name for name in VARIANTS if isinstance(build(name), BatchCredit)} == {
        "reinforce",
        "rloo",
        "reinforce++",
        "batch-mean",
    }
    assert {name for name in VARIANTS if isinstance(build(name), FilteringAlgorithm)} == {"dapo", "sequence-grpo"}


def test_an_update_rule_asks_for_what_the_loss_reads():
    rules = {name: build(name).update_rule for name in VARIANTS}
    assert {name for name, rule in rules.items() if rule.reference} == {"sequence-grpo"}
    assert {name for name, rule in rules.items() if rule.entropy} == {"ppo-entropy"}
    assert {name for name, rule in rules.items() if rule.values} == {"ppo", "ppo-entropy"}
