"""The agent `process` runs any program against the gateway, and its end becomes the episode's."""

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from tests.agents.process.playing import WatchedInference, call, in_order, play
from tests.agents.process.serving import Missing, echo, server

from tumbler.contracts.agent import Limits
from tumbler.contracts.environment import Observation, Task
from tumbler.contracts.gateway import Endpoint, GatewayCall
from tumbler.contracts.sandbox import NetworkPolicy, Sandbox, SandboxSpec
from tumbler.errors import CapabilityError, ContractError, EpisodeError, ExecFailed, InferenceError, SandboxDied
from tumbler_agents.process.agent import ProcessAgent
from tumbler_agents.process.settings import ProcessSettings
from tumbler_backends.sandbox.process.backend import ProcessBackend
from tumbler_backends.sandbox.process.settings import ProcessSettings as PlainProcessSettings

SOURCE = Path(__file__).with_name("small_agent.py").read_text()
KNOCK = """port=${TUMBLER_BASE_URL##*:}; exec 3<>/dev/tcp/127.0.0.1/${port%%/*}; echo x >&3; read <&3"""
ODD = """It's "odd"; touch /tmp/pwned $(touch /tmp/pwned) `touch /tmp/pwned` {key} {nothing} \\ $HOME 日本"""


def small(**settings):
    return ProcessAgent(
        ProcessSettings(
            **{"launch": ("python3", "{folder}/agent.py", "{prompt_file}"), "files": {"agent.py": SOURCE}, **settings}
        )
    )


@dataclass
class Hosted:
    """An episode of its own making: a task that is a text, and a gateway that is any server."""

    sandbox: Sandbox | None
    endpoint: Endpoint
    instruction: str = "Do it."
    limits: Limits = field(default_factory=lambda: Limits(turns=7, seconds=60))
    calls: tuple[GatewayCall, ...] = ()

    @property
    def task(self):
        return Task(id="task", instruction=self.instruction, split="train")

    @property
    def observation(self):
        return Observation()

    def __getattr__(self, name):
        if name in ("model", "tools", "context"):
            raise AssertionError(f"a program has no use for {name}")
        raise AttributeError(name)

    @asynccontextmanager
    async def serve(self):
        yield self.endpoint


@pytest.fixture
async def hosted(sandbox):
    """An episode against a server that gives back what comes."""
    async with server(echo) as endpoint:
        yield Hosted(sandbox, endpoint)


def knocking(then: str = "", **settings):
    """A program in shell that talks to its gateway, and then does something."""
    words = f"bash -c '{KNOCK}'\n{then}"
    return ProcessAgent(ProcessSettings(**{"launch": words, **settings}))


async def test_a_program_does_a_task(on):
    script = [*(call("sh", command=each) for each in ["ls", *on.solution]), "Done."]
    played = await play(on, small(collect=("/tmp/agent.log",)), in_order(script))
    assert (played.trajectory.status, played.trajectory.status_reason) == ("completed", "finished")
    assert played.trajectory.success
    assert len(played.trajectory.chunks) == len(script)
    assert played.program["output"] == "Done.\n"
    assert played.program["files"] == {"/tmp/agent.log": f"{2 * len(script)} messages"}
    played.check_tokens()


async def test_episodes_of_one_instance_run_side_by_side(on):
    agent = small()

    def policy(prompt):
        return "Done." if "EDITED" in prompt else call("sh", command=f"{' && '.join(on.solution)}; echo EDITED")

    played = await asyncio.gather(*(play(on, agent, policy) for _ in range(3)))
    assert [each.trajectory.success for each in played] == [True] * 3
    for each in played:
        each.check_tokens()


async def test_the_gateway_ends_a_program_that_knows_no_turn_limit(on):
    played = await play(on, small(), in_order([call("sh", command="true")]), turns=4)
    assert (played.trajectory.status, played.trajectory.status_reason) == ("truncated", "turn_limit")
    assert len(played.trajectory.chunks) == 4


async def test_a_model_that_fails_is_no_verdict_on_the_policy(on):
    def policy(prompt):
        raise RuntimeError("out of memory")

    played = await play(on, small(), WatchedInference(policy))
    assert played.trajectory.status == "infra_failed" and played.trajectory.reward is None
    assert "its model did not answer" in played.trajectory.status_reason


async def test_a_program_that_is_not_there_is_no_verdict_on_the_policy(on):
    played = await play(on, ProcessAgent(ProcessSettings(launch=("no-such-agent",))), in_order(["Done."]))
    assert played.trajectory.status == "infra_failed"
    assert "127" in played.trajectory.status_reason and "is it in the sandbox" in played.trajectory.status_reason


async def test_a_prompt_that_overflows_is_the_policys_own_doing(on):
    flood = call("sh", command="head -c 2000000 /dev/zero | tr '\\\\0' x")
    played = await play(on, small(), in_order([flood]))
    assert (played.trajectory.status, played.trajectory.status_reason) == ("truncated", "context_overflow")


@pytest.mark.parametrize("way", ["file", "word", "stdin", "shell"])
async def test_no_shell_reads_the_prompt(hosted, sandbox, way):
    launches = {
        "file": {"launch": ("cat", "{prompt_file}")},
        "word": {"launch": ("printf", "%s", "{prompt}")},
        "stdin": {"launch": ("cat",), "stdin": "prompt"},
        "shell": {"launch": 'cat "$TUMBLER_PROMPT_FILE"'},
    }
    with pytest.raises(EpisodeError) as caught:  # none of them asks a model
        await ProcessAgent(ProcessSettings(**launches[way])).run(replace(hosted, instruction=ODD))
    assert ODD in str(caught.value)
    assert (await sandbox.exec(["ls", "/tmp/pwned"])).exit_code != 0


async def test_values_stand_in_words_variables_and_files(hosted):
    agent = knocking(
        'cat "$TUMBLER_FOLDER/settings.json"\n'
        'echo "$MINE $OPENAI_BASE_URL $OPENAI_API_KEY $OPENAI_MODEL $TUMBLER_TURNS"',
        files={"settings.json": '{"turns": {turns}, "model": "{model}"}\n'},
        env={"MINE": "{key}!"},
    )
    said = (await agent.run(hosted)).details["program"]["output"].splitlines()
    assert said[0] == '{"turns": 7, "model": "policy"}'
    mine, base, *rest = said[1].split()
    assert (mine, rest) == ("secret!", ["secret", "policy", "7"])
    assert base.startswith("http://127.0.0.1:") and base.endswith("/v1")


async def test_programs_of_anthropics_api_find_their_own_variables(hosted):
    agent = knocking('echo "$ANTHROPIC_BASE_URL $ANTHROPIC_API_KEY $ANTHROPIC_MODEL"', api="messages")
    base, *rest = (await agent.run(hosted)).details["program"]["output"].split()
    assert rest == ["secret", "policy"] and not base.endswith("/v1")


async def test_a_program_that_goes_on_for_ever_is_ended_in_time(hosted, sandbox):
    outcome = await knocking("sleep 1000 & sleep 1000", seconds=4.0).run(hosted)
    assert outcome.reason == "truncated" and outcome.details["program"]["timed_out"]
    assert all(info.exit is not None for info in await sandbox.processes())


async def test_the_episodes_own_time_bounds_it_too(hosted):
    outcome = await knocking("sleep 1000").run(replace(hosted, limits=Limits(turns=7, seconds=4.0)))
    assert outcome.reason == "truncated"


async def test_a_cancelled_episode_leaves_nothing_running(hosted, sandbox):
    running = asyncio.create_task(knocking("sleep 1000").run(hosted))
    while not any(info.tag == "agent" for info in await sandbox.processes()):
        await asyncio.sleep(0.01)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert len(await sandbox.processes()) == 2
    assert all(info.exit is not None for info in await sandbox.processes())


async def kill_relay(sandbox):
    """Kill the relay once the program has used it."""
    while (await sandbox.exec(["test", "-e", "/tmp/knocked"])).exit_code != 0:
        await asyncio.sleep(0.01)
    (relay,) = [info for info in await sandbox.processes() if info.tag == "relay"]
    await (await sandbox.process(relay.exec_id)).kill()


async def test_a_policy_that_kills_the_relay_gains_no_second_try(hosted, sandbox):
    killing = asyncio.create_task(kill_relay(sandbox))
    outcome = await knocking("touch /tmp/knocked; sleep 1000").run(hosted)
    await killing
    assert outcome.reason == "truncated"
    assert "exited with" in outcome.details["program"]["relay_failure"]


async def test_a_sandbox_that_dies_is_no_verdict_on_the_policy(hosted, sandbox):
    class Dying(Missing):
        async def alive(self):
            return False

    killing = asyncio.create_task(kill_relay(sandbox))
    with pytest.raises(SandboxDied, match="died while the program ran"):
        await knocking("touch /tmp/knocked; sleep 1000").run(replace(hosted, sandbox=Dying(sandbox)))
    await killing


@pytest.mark.parametrize(
    ("then", "calls", "reason"),
    [
        ("exit 0", [200, 200], "finished"),
        ("exit 1", [200, 200], "truncated"),
        ("exit 1", [200, 429], "turn_limit"),
    ],
)
async def test_exit_codes_and_refusals_become_reasons(hosted, then, calls, reason):
    answered = tuple(GatewayCall(api="chat-completions", status=status) for status in calls)
    assert (await knocking(then).run(replace(hosted, calls=answered))).reason == reason


@pytest.mark.parametrize(("status", "error"), [(503, InferenceError), (500, InferenceError), (410, EpisodeError)])
async def test_a_gateway_that_fails_is_raised(hosted, status, error):
    answered = (GatewayCall(api="chat-completions", status=status, error="broken"),)
    with pytest.raises(error, match="broken"):
        await knocking("exit 1").run(replace(hosted, calls=answered))


async def test_its_own_commands_run_before_it(hosted):
    outcome = await knocking("cat /tmp/installed", install=("echo yes > /tmp/installed",)).run(hosted)
    assert outcome.details["program"]["output"] == "yes\n"


async def test_a_command_that_fails_stops_it_with_its_words(hosted):
    with pytest.raises(ExecFailed, match="exited with 4: no such package"):
        await knocking(install=("echo no such package >&2; exit 4",)).run(hosted)


async def test_a_sandbox_that_shares_its_folders_gets_a_folder_for_each_program(tmp_path):
    backend = ProcessBackend(PlainProcessSettings(root=tmp_path, i_know_this_is_not_isolated=True))
    with pytest.warns(RuntimeWarning, match="isolates nothing"):
        await backend.start()
    try:
        spec = SandboxSpec(isolation_min="process", network=NetworkPolicy(mode="public"))
        boxes = [await backend.create(spec) for _ in range(2)]
        async with server(echo) as endpoint:
            agent = knocking('cat "$TUMBLER_PROMPT_FILE"; echo; echo "$TUMBLER_FOLDER"')
            runs = [agent.run(Hosted(box, endpoint, f"task {number}")) for number, box in enumerate(boxes)]
            said = [outcome.details["program"]["output"] for outcome in await asyncio.gather(*runs)]
    finally:
        await backend.close()
    first, second = said
    assert first.startswith("task 0\n") and second.startswith("task 1\n")
    assert first.splitlines()[1] != second.splitlines()[1]


async def test_only_the_end_of_what_it_says_is_kept(hosted):
    outcome = await knocking("seq 1 300000; echo the end", log_bytes=100).run(hosted)
    kept = outcome.details["program"]["output"]
    assert len(kept) == 100 and kept.endswith("the end\n")


async def test_files_that_it_did_not_leave_are_missing(hosted):
    outcome = await knocking('echo kept > "$TUMBLER_FOLDER/log"', collect=("log", "/tmp/none")).run(hosted)
    assert outcome.details["program"]["files"] == {"log": "kept\n"}


async def test_an_environment_without_a_sandbox_is_refused_with_advice(hosted):
    with pytest.raises(ContractError, match="such as terminal"):
        await knocking().run(replace(hosted, sandbox=None))


async def test_a_sandbox_that_keeps_no_process_is_refused(hosted, sandbox):
    class Plain:
        async def exec(self, command, **options):
            return await sandbox.exec(command, **options)

    with pytest.raises(CapabilityError, match="keep a process running"):
        await knocking().run(replace(hosted, sandbox=Plain()))


async def test_without_packages_a_sandbox_stays_as_it_is(on):
    spec = on.environment.sandbox_spec(on.task)
    assert await small().adapt_sandbox(spec) is spec
