"""Judges an episode: ends what runs, brings the tests in, runs them, and reads what they gave.

What goes wrong in the sandbox, a time-out of the tests among it, is a failure of the agent, which can bring about any
of it: to roll such an episode again would drop just those. Only what the sandbox backend raises is infrastructure's.
"""

from dataclasses import dataclass

from tumbler.contracts.environment import Verdict
from tumbler.contracts.sandbox import ExecResult, NetworkPolicy, Sandbox
from tumbler.contracts.sandbox_control import ControlledSandbox
from tumbler.errors import CapabilityError, TumblerError
from tumbler_envs.terminal.settings import TerminalSettings
from tumbler_envs.terminal.task import TEST_SCRIPT, TerminalTask
from tumbler_envs.terminal.verification.ending import end_processes
from tumbler_envs.terminal.verification.interpreter import interpreter_of
from tumbler_envs.terminal.verification.places import Places, lay_out, make_places
from tumbler_envs.terminal.verification.rewards import Rewards, rewards_of_exit, rewards_of_json, rewards_of_text

__all__ = ["judge"]

_MAX_REWARD_BYTES = 1 << 16
_MAX_OUTPUT_BYTES = 1 << 20
_SHOWN = 2000
"""Characters of the tests' output, from its end, that the verdict tells."""


@dataclass(frozen=True, kw_only=True)
class _Run:
    """What the tests brought."""

    rewards: Rewards
    exit_code: int | None = None
    output: str = ""


async def judge(
    sandbox: Sandbox, task: TerminalTask, settings: TerminalSettings, *, network: NetworkPolicy | None
) -> Verdict:
    """Return the verdict; `network` is what the tests may reach, None is what the agent could.

    The agent's shell must be closed. Raises `SandboxError` where the sandbox no longer works.
    """
    await end_processes(sandbox)
    if network is not None:
        await set_network(sandbox, network)
    try:
        run = await _run(sandbox, task, settings)
    except OSError as error:
        if isinstance(error, TimeoutError | ConnectionError) or (isinstance(error, TumblerError) and error.infra):
            raise
        # A full disk, or a folder in the place of a file: what the agent, or its program in the tests, left.
        run = _Run(rewards=Rewards(problem=f"the tests' files cannot be written or read: {error}"))
    return _verdict(run, settings)


async def set_network(sandbox: Sandbox, policy: NetworkPolicy) -> None:
    """Replace what the sandbox may reach; raise `CapabilityError` where that cannot be done."""
    if not isinstance(sandbox, ControlledSandbox):
        raise CapabilityError("the tests are to have another network than the agent, which this sandbox cannot do")
    await sandbox.set_network(policy)


async def _run(sandbox: Sandbox, task: TerminalTask, settings: TerminalSettings) -> _Run:
    places = await make_places(sandbox, writable_root=task.image is not None and sandbox.tier != "process")
    if places is None:
        return _Run(rewards=Rewards(problem="the sandbox has no room for the tests"))
    await lay_out(sandbox, places, task.tests)
    try:
        result = await sandbox.exec(
            [*interpreter_of(task.tests[TEST_SCRIPT]), f"{places.tests}/{TEST_SCRIPT}"],
            cwd=task.workdir,
            env=task.verifier_env,
            timeout=settings.verifier_timeout or task.verifier_timeout,
            max_output=_MAX_OUTPUT_BYTES,
        )
    except (FileNotFoundError, NotADirectoryError):
        return _Run(rewards=Rewards(problem=f"the working folder {task.workdir} is gone"))
    output = places.outward((result.stdout + result.stderr).decode("utf-8", errors="replace"))[-_SHOWN:]
    if result.timed_out:
        return _Run(rewards=Rewards(problem="the tests took too long"), exit_code=result.exit_code, output=output)
    rewards = await _rewards(sandbox, places, result, settings.reward_key)
    return _Run(rewards=rewards, exit_code=result.exit_code, output=output)


async def _rewards(sandbox: Sandbox, places: Places, result: ExecResult, key: str) -> Rewards:
    for name in ("reward.json", "reward.txt"):
        try:
            data = await sandbox.read(f"{places.logs}/{name}", limit=_MAX_REWARD_BYTES)
        except FileNotFoundError:
            continue
        return rewards_of_json(data, key=key) if name.endswith(".json") else rewards_of_text(data)
    return rewards_of_exit(result.exit_code)


def _verdict(run: _Run, settings: TerminalSettings) -> Verdict:
    given = run.rewards.reward
    success = given is not None and given >= settings.solved_at
    return Verdict(
        reward=given if given is not None and success else settings.failure_reward,
        success=success,
        details={
            "given": given,
            "rewards": dict(run.rewards.all),
            "problem": run.rewards.problem,
            "exit_code": run.exit_code,
            "test_output": run.output,
        },
    )
