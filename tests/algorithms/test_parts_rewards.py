"""Settings of final rewards that no chunk would ever get."""

import pytest
from pydantic import ValidationError

from tumbler_algorithms.ipa.settings import IPASettings
from tumbler_algorithms.ipa_token.settings import TokenIPASettings
from tumbler_algorithms.ppo.settings import PPOSettings


@pytest.mark.parametrize(
    ("settings", "fields"),
    [
        (IPASettings, {"baseline": "mean"}),
        (IPASettings, {"failure_reward": -0.2}),
        (TokenIPASettings, {"baseline": "whiten"}),
        (TokenIPASettings, {"failure_reward": 0.0}),
        (PPOSettings, {"failure_reward": -1.0}),
    ],
)
def test_what_changes_the_final_reward_is_refused_where_turn_rewards_are_the_only_ones(settings, fields):
    with pytest.raises(ValidationError, match=r'turn_rewards = "only" leaves out'):
        settings(turn_rewards="only", **fields)
    settings(turn_rewards="add", **fields)
    settings(turn_rewards="only")
