"""What the record of mini-SWE-agent says of its end; it lies where the policy can write."""

import pytest

from tumbler.contracts.sandbox_process import ProcessExit
from tumbler_agents.process.mini_swe_agent.agent import MiniSweAgent
from tumbler_agents.process.mini_swe_agent.settings import MiniSweAgentSettings
from tumbler_agents.process.outcome import Ended

EXIT = ProcessExit(exit_code=0, signal=None, oom=False, timed_out=False, duration=1.0)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (b'{"info": {"exit_status": "Submitted"}}', "finished"),
        (b'{"info": {"exit_status": ["Submitted"]}}', None),
        (b"[" * 100_000, None),
        (b"1" * 5000, None),
        (b"\xff", None),
    ],
)
def test_a_record_that_the_policy_has_forged_says_nothing_and_ends_no_run(record, reason):
    ended = Ended(exit=EXIT, connections=1, files={"trajectory.json": record})
    assert MiniSweAgent(MiniSweAgentSettings()).judge(ended) == reason
