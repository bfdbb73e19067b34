"""Whole episodes in real sandboxes: what the policy does is carried out, recorded and judged."""

from tests.agents.iflow.scripted import Scripted, call, calls, episode, text_of

from tumbler.contracts.agent import Limits
from tumbler_agents.iflow.definitions import SubAgent, SubAgentSettings
from tumbler_agents.iflow.settings import IflowSettings

SETTINGS = IflowSettings()


async def test_a_policy_that_writes_the_file_solves_the_task_and_every_call_is_recorded(backend):
    policy = Scripted(
        calls(("hint", {}), ("todo_write", {"todos": [{"content": "write the answer"}]})),
        call("write", path="answer", content="42"),
        call("shell", command="cat answer"),
        "done",
    )
    trajectory = await episode(SETTINGS, policy, backend)
    assert trajectory.success and trajectory.status == "completed", trajectory.status_reason
    made = [[each.name for each in chunk.tool_calls] for chunk in trajectory.chunks]
    assert made == [["hint", "todo_write"], ["write"], ["shell"], []]
    assert "42" in trajectory.chunks[2].observation
    assert len(trajectory.segments) == 1, "prompts no longer extend each other"


async def test_answers_to_several_calls_are_one_message_of_the_user(backend):
    policy = Scripted(calls(("hint", {}), ("list", {}), ("read", {"path": "notes/a"})), "done")
    await episode(SETTINGS, policy, backend)
    after = policy.prompts[1].split("assistant\n")[-2]
    assert after.count("user\n<tool_response>") == 1 and after.count("<tool_response>") == 3


async def test_a_reply_with_a_broken_and_a_good_call_is_answered_for_both(backend):
    good = text_of(call("hint"))
    policy = Scripted(f"<tool_call>\n{{oops\n</tool_call>\n{good}", "done")
    trajectory = await episode(SETTINGS, policy, backend)
    assert "write 42" in policy.prompts[1] and "not JSON" in policy.prompts[1]
    assert trajectory.chunks[0].errored and [each.name for each in trajectory.chunks[0].tool_calls] == ["hint"]
    assert trajectory.details["malformed_calls"] == 1


async def test_a_call_of_no_tool_names_the_tool_that_was_meant(backend):
    policy = Scripted(call("wirte", path="a", content="b"), "done")
    trajectory = await episode(SETTINGS, policy, backend)
    assert "Did you mean 'write'?" in policy.prompts[1]
    assert trajectory.chunks[0].errored


async def test_malformed_replies_end_the_episode_at_their_limit(backend):
    policy = Scripted("<tool_call>nonsense</tool_call>")
    settings = IflowSettings(stop_after_repeats=0)
    trajectory = await episode(settings, policy, backend, limits=Limits(turns=20, seconds=60, malformed=3))
    assert (len(trajectory.chunks), trajectory.status_reason) == (3, "malformed")


async def test_a_policy_that_goes_in_circles_is_reminded_and_then_stopped(backend):
    policy = Scripted(call("hint"))
    trajectory = await episode(SETTINGS, policy, backend)
    assert len(trajectory.chunks) == SETTINGS.stop_after_repeats
    assert trajectory.status_reason == "loop"
    assert sum("Do something else" in prompt for prompt in policy.prompts[:4]) == 1


async def test_a_reply_that_is_cut_off_does_not_end_the_episode(backend):
    policy = Scripted("x" * 3000, call("write", path="answer", content="42"), "done")
    trajectory = await episode(SETTINGS, policy, backend)
    assert trajectory.success
    assert trajectory.chunks[0].errored


async def test_the_last_turns_are_announced(backend):
    policy = Scripted(*[call("shell", command=f"echo {index}") for index in range(9)])
    await episode(SETTINGS, policy, backend, limits=Limits(turns=6, seconds=60))
    told = [index for index, prompt in enumerate(policy.prompts) if "more replies are left" in prompt]
    assert told == [3, 4, 5]
    assert policy.prompts[5].count("more replies are left") == 1


async def test_tools_are_chosen_by_patterns(backend):
    policy = Scripted("done")
    await episode(IflowSettings(include=("hint", "re*"), exclude=("read_many",)), policy, backend)
    assert '"hint"' in policy.prompts[0] and '"read"' in policy.prompts[0]
    assert '"shell"' not in policy.prompts[0] and '"read_many"' not in policy.prompts[0]


async def test_the_memory_of_a_folder_comes_with_the_first_file_that_is_read_there(backend):
    policy = Scripted(call("read", path="notes/a"), call("read", path="notes/a"), "done")
    await episode(SETTINGS, policy, backend)
    assert "written in digits" not in policy.prompts[0]
    assert policy.prompts[2].count("written in digits") == 1


async def test_sub_agents_work_side_by_side_in_conversations_of_their_own(backend):
    seen = []

    def policy(prompt):
        seen.append(prompt)
        if "You are a scout." not in prompt:
            tasks = [("task", {"agent": "scout", "prompt": f"Look at {name}."}) for name in ("left", "right")]
            return "done: both" if "FOUND" in prompt else text_of(calls(*tasks))
        return (
            "FOUND " + ("left" if "Look at left." in prompt else "right")
            if "write 42" in prompt
            else text_of(call("hint"))
        )

    scout = SubAgent(name="scout", description="Looks.", prompt="You are a scout.", include=("hint", "task"))
    trajectory = await episode(IflowSettings(sub_agents=SubAgentSettings(agents=(scout,))), policy, backend)
    assert trajectory.status == "completed", trajectory.status_reason
    owners = {segment.agent_id for segment in trajectory.segments}
    assert owners == {"main", "main/scout-1", "main/scout-2"}
    assert "FOUND left" in seen[-1] and "FOUND right" in seen[-1]
    assert "write 42" not in seen[-1], "more than the answer came back"
    inner = [prompt for prompt in seen if "You are a scout." in prompt]
    assert all('"task"' not in prompt for prompt in inner), "a sub-agent below the depth has sub-agents"


async def test_sub_agents_use_up_the_episodes_turns(backend):
    def policy(prompt):
        return text_of(call("hint")) if "for another agent" in prompt else text_of(call("task", prompt="Do it."))

    settings = IflowSettings(stop_after_repeats=0)
    trajectory = await episode(settings, policy, backend, limits=Limits(turns=7, seconds=60))
    assert (len(trajectory.chunks), trajectory.status_reason) == (7, "turn_limit")


async def test_a_sub_agent_that_does_not_finish_says_why(backend):
    def policy(prompt):
        if "for another agent" in prompt:
            return text_of(call("shell", command="echo again"))
        return "done" if "<tool_response>" in prompt else text_of(call("task", prompt="Do it.", agent="short"))

    short = SubAgent(name="short", description="Is brief.", prompt="Be brief.", turns=2)
    seen = []
    settings = IflowSettings(sub_agents=SubAgentSettings(agents=(short,)))
    trajectory = await episode(settings, lambda prompt: (seen.append(prompt), policy(prompt))[1], backend)
    assert trajectory.status == "completed"
    assert "stopped before it was done: it reached its limit of replies" in seen[-1]
