"""Each contract suite passes a sound implementation and catches broken ones, each by the right test."""

import asyncio
import inspect
import json
import random
from dataclasses import replace

import pytest

from tumbler.contracts.agent import Outcome
from tumbler.contracts.algorithm import PlannedGroup, RolloutPlan, UpdateRule
from tumbler.contracts.context import Drop, Plan, StrategyCaps
from tumbler.contracts.environment import EnvironmentCapabilities, ExpertAction, Task, Verdict
from tumbler.contracts.sandbox import SandboxSpec
from tumbler.contracts.training import LossOutput, StepReport
from tumbler.contracts.values import Message, ToolCall, ToolSpec
from tumbler.errors import ContextOverflowError
from tumbler.testing import (
    AgentSuite,
    AlgorithmSuite,
    ContextStrategySuite,
    CountingSettings,
    CountingTrainer,
    EnvironmentSuite,
    ExecutionSuite,
    InferenceSuite,
    MemorySandboxBackend,
    ModelSuite,
    ScriptedInference,
    TrainingSuite,
    TwoStepEnvironment,
    TwoStepSettings,
)
from tumbler_backends.execution.local.backend import LocalExecution
from tumbler_backends.execution.local.settings import LocalSettings
from tumbler_backends.models.settings import TinySettings
from tumbler_backends.models.tiny import TinyModel


def caught(suite, tmp_path, **fixtures):
    """Run every test of the suite by hand and return the names of those that fail."""
    failed = set()
    for number, (name, test) in enumerate(inspect.getmembers(suite, inspect.isfunction)):
        if not name.startswith("test_"):
            continue
        folder = tmp_path / str(number)
        folder.mkdir()
        with pytest.MonkeyPatch.context() as monkeypatch:
            known = {"tmp_path": folder, "model_folder": folder, "monkeypatch": monkeypatch, **fixtures}
            arguments = {each: known[each] for each in inspect.signature(test).parameters if each != "self"}
            try:
                test(suite(), **arguments)
            except pytest.skip.Exception:
                continue
            except (Exception, pytest.fail.Exception):
                failed.add(name)
    return failed


def build(broken):
    """A class whose methods are those of the mapping, on top of a base."""
    base, methods = broken
    return type("Broken", (base,), methods)


# environments


class Sound(TwoStepEnvironment):
    def __init__(self):
        super().__init__(TwoStepSettings())


async def unequal_tasks(self, split, *, count, seed):
    return [Task(id=f"{split}-{random.random()}", instruction="", split=split) for _ in range(count)]


async def one_split(self, split, *, count, seed):
    return [Task(id=f"{seed}-{index}", instruction="", split=split) for index in range(count)]


async def too_many_tasks(self, split, *, count, seed):
    return await TwoStepEnvironment.tasks(self, split, count=count + 1, seed=seed)


async def tuples_in_tasks(self, split, *, count, seed):
    tasks = await TwoStepEnvironment.tasks(self, split, count=count, seed=seed)
    return [replace(task, metadata={"pair": (1, 2)}) for task in tasks]


async def raises_on_unknown_tools(self, call):
    if call.name not in ("look", "say"):
        raise ValueError(call.name)
    return await TwoStepEnvironment.step(self, call)


async def trusts_arguments(self, call):
    if call.name == "say":
        call.arguments["word"].encode()
    return await TwoStepEnvironment.step(self, call)


async def silent_about_errors(self, call):
    return replace(await TwoStepEnvironment.step(self, call), errored=False)


async def noisy(self, call):
    result = await TwoStepEnvironment.step(self, call)
    return result if call.name == "look" else replace(result, observation=f"said {random.random()}")


async def always_solved(self):
    return Verdict(reward=1.0, success=True)


async def rewards_failure(self):
    verdict = await TwoStepEnvironment.verify(self)
    return replace(verdict, reward=1.0)


async def closes_once(self):
    if self.__dict__.setdefault("closed", False):
        raise RuntimeError("closed already")
    self.closed = True


class LastWord:
    word = ""


async def shared_reset(self, task, *, seed, sandbox):
    observation = await TwoStepEnvironment.reset(self, task, seed=seed, sandbox=sandbox)
    LastWord.word = self._word
    return observation


async def shared_step(self, call):
    self._word = LastWord.word
    if call.name == "no-such-tool":
        LastWord.word = "other"
    LastWord.word = str(len(LastWord.word)) + LastWord.word
    return await TwoStepEnvironment.step(self, call)


class FaultyExpert:
    def act(self, observation):
        return None


class EndlessExpert:
    def act(self, observation):
        return ExpertAction(call=ToolCall(name="look"))


ENVIRONMENTS = {
    "capabilities": ({"capabilities": None}, "test_it_says_what_it_needs"),
    "unequal": ({"tasks": unequal_tasks}, "test_equal_seeds_give_equal_tasks"),
    "one split": ({"tasks": one_split}, "test_splits_are_disjoint_for_every_pair_of_seeds"),
    "too many": ({"tasks": too_many_tasks}, "test_there_are_tasks_and_never_more_than_asked_for"),
    "tuples": ({"tasks": tuples_in_tasks}, "test_tasks_are_plain_json"),
    "tools": (
        {"tools": lambda self: [ToolSpec(name="look", description="Look."), ToolSpec(name="look", description="2")]},
        "test_tools_are_described",
    ),
    "sandbox": ({"sandbox_spec": lambda self, task: SandboxSpec()}, "test_a_sandbox_is_asked_for_as_declared"),
    "raises": ({"step": raises_on_unknown_tools}, "test_a_call_of_an_unknown_tool_is_answered"),
    "trusts": ({"step": trusts_arguments}, "test_malformed_arguments_are_answered"),
    "not errored": ({"step": silent_about_errors}, "test_a_call_of_an_unknown_tool_is_answered"),
    "noisy": ({"step": noisy}, "test_a_replayable_environment_replays"),
    "solved": ({"verify": always_solved}, "test_an_episode_that_does_nothing_solves_nothing"),
    "rewards": ({"verify": rewards_failure}, "test_a_verdict_is_consistent"),
    "closes once": ({"close": closes_once}, "test_closing_is_safe_at_any_time"),
    "shared": ({"reset": shared_reset, "step": shared_step}, "test_two_episodes_do_not_see_each_other"),
    "lazy expert": ({"expert": lambda self, task, *, seed: FaultyExpert()}, "test_the_expert_solves_its_tasks"),
    "endless expert": ({"expert": lambda self, task, *, seed: EndlessExpert()}, "test_the_expert_solves_its_tasks"),
}


def test_the_environment_suite_passes_a_sound_environment(tmp_path):
    assert caught(EnvironmentSuite, tmp_path, make_environment=Sound, sandboxes=MemorySandboxBackend()) == set()


@pytest.mark.parametrize("fault", ENVIRONMENTS)
def test_the_environment_suite_catches(tmp_path, fault):
    methods, expected = ENVIRONMENTS[fault]
    broken = build((Sound, methods))
    assert expected in caught(EnvironmentSuite, tmp_path, make_environment=broken, sandboxes=MemorySandboxBackend())


def test_an_environment_that_needs_a_sandbox_gets_one(tmp_path):
    class Boxed(Sound):
        capabilities = EnvironmentCapabilities(needs_sandbox=True)

        def sandbox_spec(self, task):
            return SandboxSpec()

        async def reset(self, task, *, seed, sandbox):
            assert sandbox is not None
            await sandbox.write("word", b"here")
            return await super().reset(task, seed=seed, sandbox=None)

    boxes = MemorySandboxBackend()
    assert caught(EnvironmentSuite, tmp_path, make_environment=Boxed, sandboxes=boxes) == set()
    assert boxes.sandboxes and all(each.deleted for each in boxes.sandboxes)


# algorithms


class Reinforce:
    update_rule = UpdateRule()
    tasks_per_step = 3
    wants_experts = False

    def plan(self, tasks, state):
        return RolloutPlan(groups=tuple(PlannedGroup(task=task, size=2) for task in tasks))

    def credit(self, group):
        return [[each.reward or 0.0] * len(each.chunks) for each in group.trajectories]

    def loss(self, batch):
        inside = batch.chunk_of_token >= 0
        total = -(batch.policy_logprobs[inside] * batch.chunk_credit[batch.chunk_of_token[inside]]).sum()
        return LossOutput(total=total, denominator=float(inside.sum()))


def mean_loss(self, batch):
    inside = batch.chunk_of_token >= 0
    total = -(batch.policy_logprobs[inside] * batch.chunk_credit[batch.chunk_of_token[inside]]).mean()
    return LossOutput(total=total, denominator=1.0)


def careless_loss(self, batch):
    return LossOutput(total=-batch.policy_logprobs.sum(), denominator=1.0)


def masks_too_late(self, batch):
    inside = (batch.chunk_of_token >= 0).double()
    return LossOutput(total=-(batch.policy_logprobs * inside).sum(), denominator=float(inside.sum()))


def one_credit_for_each_trajectory(self, group):
    return [[each.reward or 0.0] for each in group.trajectories]


def divides_by_the_deviation(self, group):
    rewards = [each.reward or 0.0 for each in group.trajectories]
    spread = max(rewards) - min(rewards)
    return [[reward / spread] * len(each.chunks) for reward, each in zip(rewards, group.trajectories, strict=True)]


def counts_calls(self, group):
    self.calls = self.__dict__.get("calls", 0) + 1
    return [[float(self.calls)] * len(each.chunks) for each in group.trajectories]


def credits_in_torch(self, group):
    import torch

    return [torch.zeros(len(each.chunks)).tolist() for each in group.trajectories]


def plans_at_random(self, tasks, state):
    return RolloutPlan(groups=(PlannedGroup(task=tasks[0], size=random.randint(1, 1 << 30)),))


def anchors_anywhere(self, tasks, state):
    from tumbler.testing import sample_trajectory
    from tumbler.trajectory import Anchor

    anchor = Anchor(expert=sample_trajectory(), chunk=99)
    return RolloutPlan(groups=tuple(PlannedGroup(task=task, size=1, anchor=anchor) for task in tasks))


def wants_all_tasks(self, tasks, state):
    return RolloutPlan(groups=tuple(PlannedGroup(task=tasks[index], size=1) for index in range(self.tasks_per_step)))


ALGORITHMS = {
    "no epochs": ({"update_rule": UpdateRule(epochs=0)}, "test_its_update_rule_can_be_carried_out"),
    "no rollouts": (
        {"plan": lambda self, tasks, state: RolloutPlan(groups=())},
        "test_it_plans_rollouts_of_the_tasks_on_offer",
    ),
    "needs all": ({"plan": wants_all_tasks}, "test_it_makes_do_with_fewer_tasks_than_it_wants"),
    "random": ({"plan": plans_at_random}, "test_equal_seeds_give_equal_plans"),
    "anchors": ({"plan": anchors_anywhere}, "test_its_anchors_are_experts_of_the_same_task"),
    "credit shape": ({"credit": one_credit_for_each_trajectory}, "test_every_chunk_gets_one_finite_credit"),
    "lone": ({"credit": divides_by_the_deviation}, "test_a_group_of_one_is_credited"),
    "state": ({"credit": counts_calls}, "test_credit_depends_on_the_group_alone"),
    "torch": ({"credit": credits_in_torch}, "test_planning_and_credit_need_no_torch"),
    "mean": ({"loss": mean_loss}, "test_micro_batches_add_up_to_the_whole"),
    "careless": ({"loss": careless_loss}, "test_only_chunk_tokens_matter_to_the_loss"),
    "nan": ({"loss": masks_too_late}, "test_only_chunk_tokens_matter_to_the_loss"),
    "nothing": ({"loss": careless_loss}, "test_a_batch_without_trainable_chunks_has_no_gradient"),
    "no gradient": (
        {"loss": lambda self, batch: LossOutput(total=batch.reward.sum(), denominator=1.0)},
        "test_the_loss_has_a_finite_gradient",
    ),
}


def test_the_algorithm_suite_passes_a_sound_algorithm(tmp_path):
    assert caught(AlgorithmSuite, tmp_path, algorithm=Reinforce()) == set()


@pytest.mark.parametrize("fault", ALGORITHMS)
def test_the_algorithm_suite_catches(tmp_path, fault):
    methods, expected = ALGORITHMS[fault]
    assert expected in caught(AlgorithmSuite, tmp_path, algorithm=build((Reinforce, methods))())


# agents


class Json:
    """One JSON object a turn."""

    def write_action(self, action):
        return "done" if action is None else json.dumps({"name": action.call.name, **action.call.arguments})

    async def run(self, episode):
        episode.context.append(Message(role="user", content=self.opening(episode)))
        malformed = 0
        for _turn in range(self.turns(episode)):
            try:
                reply = await episode.model.generate(await episode.context.messages())
            except ContextOverflowError:
                return Outcome(reason="context_overflow")
            episode.context.append(Message(role="assistant", content=reply.text), sampled=True)
            if reply.text == "done":
                return Outcome(reason="finished")
            call = self.parse(reply.text)
            if call is None:
                malformed += 1
                self.reject(episode, reply)
                if malformed >= episode.limits.malformed:
                    return Outcome(reason="malformed")
                continue
            result = await episode.tools.call(call, chunk=reply.chunk)
            if result.terminated:
                return Outcome(reason="terminated")
            episode.context.append(Message(role="user", content=result.observation))
        return self.limit()

    def limit(self):
        return Outcome(reason="turn_limit")

    def opening(self, episode):
        return episode.task.instruction

    def turns(self, episode):
        return episode.limits.turns

    def reject(self, episode, reply):
        episode.tools.reject(chunk=reply.chunk, reason="no")
        episode.context.append(Message(role="user", content="no"))

    def parse(self, text):
        try:
            value = json.loads(text)
            return ToolCall(name=value.pop("name"), arguments=value)
        except (ValueError, AttributeError, KeyError, TypeError):
            return None


async def raises_on_overflow(self, episode):
    await episode.model.generate([Message(role="user", content="x" * 9000)])


def remembers(self, episode):
    self.count = self.__dict__.get("count", 0) + 1
    return f"{episode.task.instruction} {self.count}"


AGENTS = {
    "garbled": (
        {"write_action": lambda self, action: "done" if action is None else "hm"},
        "test_an_expert_solves_the_task_through_it",
    ),
    "no limit": ({"turns": lambda self, episode: 50}, "test_the_turn_limit_holds"),
    "claims success": ({"limit": lambda self: Outcome(reason="finished")}, "test_the_turn_limit_holds"),
    "raises": ({"parse": lambda self, text: json.loads(text)}, "test_replies_that_are_no_call_are_survived"),
    "unrecorded": (
        {"reject": lambda self, episode, reply: episode.context.append(Message(role="user", content="no"))},
        "test_every_turn_is_recorded_as_a_call_or_as_an_error",
    ),
    "overflow": ({"run": raises_on_overflow}, "test_a_full_context_ends_the_episode_and_counts"),
    "no end": ({"write_action": lambda self, action: "hm"}, "test_an_expert_can_end_the_episode"),
    "remembers": ({"opening": remembers, "limit": None}, "test_one_instance_runs_many_episodes_at_once"),
}


def test_the_agent_suite_passes_a_sound_agent(tmp_path):
    assert caught(AgentSuite, tmp_path, agent=Json()) == set()


@pytest.mark.parametrize("fault", AGENTS)
def test_the_agent_suite_catches(tmp_path, fault):
    methods, expected = AGENTS[fault]
    assert expected in caught(AgentSuite, tmp_path, agent=build((Json, methods))())


# context strategies


class Window:
    """Keeps the last four entries."""

    caps = StrategyCaps(bounded=True, rewrites="every_turn")

    def start(self, task, rng):
        return {"dropped": 0}

    async def plan(self, view, budget, state, why):
        free = [entry for entry in view.entries if not entry.pinned]
        state["dropped"] += len(free[:-4])
        return Plan(edits=[Drop(ids=tuple(entry.id for entry in free[:-4]))])


async def drops_everything(self, view, budget, state, why):
    return Plan(edits=[Drop(ids=tuple(entry.id for entry in view.entries))])


async def drops_nothing(self, view, budget, state, why):
    return Plan()


async def drops_at_random(self, view, budget, state, why):
    return Plan(edits=[Drop(ids=tuple(e.id for e in view.entries if not e.pinned and random.random() < 0.5))])


async def keeps_a_set(self, view, budget, state, why):
    state["seen"] = {1, 2}
    return Plan()


async def remembers_itself(self, view, budget, state, why):
    self.turns = self.__dict__.get("turns", 0) + 1
    free = [entry for entry in view.entries if not entry.pinned]
    return Plan(edits=[Drop(ids=tuple(entry.id for entry in free[: self.turns % 3]))])


async def remembers_identity(self, view, budget, state, why):
    memory = self.__dict__.setdefault("memory", {})
    memory[id(state)] = memory.get(id(state), 0) + 1
    free = [entry for entry in view.entries if not entry.pinned]
    return Plan(edits=[Drop(ids=tuple(entry.id for entry in free[: memory[id(state)]]))])


SHARED_STATE = {"dropped": 0}

STRATEGIES = {
    "caps": ({"caps": None}, "test_it_says_what_it_promises"),
    "shared state": (
        {"start": lambda self, task, rng: SHARED_STATE},
        "test_its_state_is_json_and_depends_on_the_seed_alone",
    ),
    "pinned": ({"plan": drops_everything}, "test_its_edits_can_be_carried_out"),
    "overflow": ({"plan": drops_nothing}, "test_a_bounded_strategy_never_overflows"),
    "random": ({"plan": drops_at_random}, "test_a_deterministic_strategy_repeats_itself"),
    "a set": ({"plan": keeps_a_set}, "test_its_state_stays_json"),
    "claims no rewrites": (
        {"caps": StrategyCaps(bounded=True)},
        "test_a_strategy_that_never_rewrites_only_lets_the_view_grow",
    ),
    "remembers": ({"plan": remembers_itself}, "test_an_instance_keeps_no_state"),
    "remembers by identity": ({"plan": remembers_identity}, "test_a_saved_state_goes_on_as_before"),
}


def test_the_context_suite_passes_a_sound_strategy(tmp_path):
    assert caught(ContextStrategySuite, tmp_path, strategy=Window()) == set()


@pytest.mark.parametrize("fault", STRATEGIES)
def test_the_context_suite_catches(tmp_path, fault):
    methods, expected = STRATEGIES[fault]
    assert expected in caught(ContextStrategySuite, tmp_path, strategy=build((Window, methods))())


# execution


class Local(LocalExecution):
    def __init__(self):
        super().__init__(LocalSettings())


async def forgets_the_episode(self, request):
    return await asyncio.shield(asyncio.ensure_future(self._runner(request)))


async def always_the_first(self, request):
    self.first = self.__dict__.get("first") or await self._runner(request)
    return self.first


async def closes_at_once(self):
    for task in self._in_flight:
        task.cancel()


async def locks_for_ever(self, request):
    self.lock = self.__dict__.get("lock") or asyncio.Lock()
    await asyncio.wait_for(self.lock.acquire(), 0.2)
    result = await self._runner(request)
    self.lock.release()
    return result


async def swallows_errors(self, request):
    from tumbler.testing import sample_trajectory

    try:
        return await self._runner(request)
    except Exception:
        return sample_trajectory(request.id)


async def no_health(self):
    return {}


EXECUTIONS = {
    "capacity": ({"capacity": 0}, "test_it_takes_at_least_one_rollout"),
    "shielded": ({"submit": forgets_the_episode}, "test_cancelling_the_call_cancels_the_episode"),
    "mixed up": ({"submit": always_the_first}, "test_each_caller_gets_its_own_rollout"),
    "hasty": ({"close": closes_at_once}, "test_closing_waits_until_everything_is_cleaned_up"),
    "locked": ({"submit": locks_for_ever}, "test_a_cancelled_rollout_gives_its_place_free"),
    "swallows": ({"submit": swallows_errors}, "test_an_error_of_the_runner_reaches_the_caller"),
    "health": ({"health": no_health}, "test_its_health_is_numbers"),
}


def test_the_execution_suite_passes_a_sound_backend(tmp_path):
    assert caught(ExecutionSuite, tmp_path, make_backend=Local) == set()


@pytest.mark.parametrize("fault", EXECUTIONS)
def test_the_execution_suite_catches(tmp_path, fault):
    methods, expected = EXECUTIONS[fault]
    assert expected in caught(ExecutionSuite, tmp_path, make_backend=build((Local, methods)))


# inference


class Scripted(ScriptedInference):
    def __init__(self):
        super().__init__(lambda prompt: "word and another one")


async def positive_logprobs(self, request):
    reply = await ScriptedInference.generate(self, request)
    return replace(reply, logprobs=tuple(-value for value in reply.logprobs))


async def unseeded(self, request):
    reply = await ScriptedInference.generate(self, request)
    return replace(reply, token_ids=tuple(random.choices(range(40, 90), k=len(reply.token_ids))))


async def too_long(self, request):
    reply = await ScriptedInference.generate(self, request)
    return replace(reply, token_ids=reply.token_ids * 2, logprobs=reply.logprobs * 2)


async def forgets_the_version(self, update):
    return None


async def releases_once(self, session):
    self.released.remove(session) if session in self.released else self.released.append(session)
    if session == "never-seen":
        raise KeyError(session)


async def never_answers(self, request):
    self.hung = self.__dict__.get("hung", 0) + (request.sampling.max_tokens == 100)
    if self.hung:
        raise KeyError("engine is gone")
    return await ScriptedInference.generate(self, request)


INFERENCES = {
    "positive": ({"generate": positive_logprobs}, "test_a_reply_is_well_formed"),
    "too long": ({"generate": too_long}, "test_a_reply_is_well_formed"),
    "unseeded": ({"generate": unseeded}, "test_equal_seeds_give_equal_replies"),
    "greedy": ({"generate": unseeded}, "test_greedy_replies_do_not_depend_on_the_seed"),
    "stale": ({"update_weights": forgets_the_version}, "test_new_weights_are_served_under_their_version"),
    "release": ({"release": releases_once}, "test_sessions_can_be_released"),
    "counters": ({"metrics": lambda self: {"load": -float(len(self.requests))}}, "test_its_counters_are_numbers"),
    "in flight": ({"generate": never_answers}, "test_closing_answers_what_is_in_flight"),
}


def test_the_inference_suite_passes_a_sound_backend(tmp_path):
    assert caught(InferenceSuite, tmp_path, make_backend=Scripted) == set()


@pytest.mark.parametrize("fault", INFERENCES)
def test_the_inference_suite_catches(tmp_path, fault):
    methods, expected = INFERENCES[fault]
    assert expected in caught(InferenceSuite, tmp_path, make_backend=build((Scripted, methods)))


# training


class Counting(CountingTrainer):
    def __init__(self):
        super().__init__(CountingSettings())


async def counts_everything(self, batch):
    self._version += 1
    return StepReport(optimizer_steps=1, metrics={})


async def never_counts(self, batch, algorithm):
    return StepReport(optimizer_steps=1, metrics={})


async def trains_replayed(self, batch, algorithm):
    self._version += 1
    return StepReport(optimizer_steps=1, metrics={})


async def saves_no_model(self, folder):
    folder.mkdir(parents=True)
    (folder / "state.json").write_text(json.dumps({"version": self._version, "seen": []}))


async def loads_nothing(self, folder):
    return None


TRAININGS = {
    "masked": ({"fit_sft": counts_everything}, "test_demonstrations_that_are_all_masked_change_nothing"),
    "version": ({"step": never_counts}, "test_every_call_that_trains_is_one_version"),
    "replayed": ({"step": trains_replayed}, "test_replayed_chunks_are_never_trained_by_rl"),
    "no model": ({"save": saves_no_model}, "test_a_checkpoint_goes_on_exactly"),
    "not loaded": ({"load": loads_nothing}, "test_a_checkpoint_goes_on_exactly"),
    "starts late": ({"version": 3}, "test_it_starts_at_version_0"),
}


def test_the_training_suite_passes_a_sound_backend(tmp_path):
    assert caught(TrainingSuite, tmp_path, make_backend=Counting) == set()


@pytest.mark.parametrize("fault", TRAININGS)
def test_the_training_suite_catches(tmp_path, fault):
    methods, expected = TRAININGS[fault]
    assert expected in caught(TrainingSuite, tmp_path, make_backend=build((Counting, methods)))


# model sources


class Tiny(TinyModel):
    def __init__(self):
        super().__init__(TinySettings(layers=1, width=16, heads=2, context=64, vocabulary=384))


def without_a_config(self, folder, *, texts, seed):
    TinyModel.prepare(self, folder, texts=texts, seed=seed)
    (folder / "config.json").unlink()
    return folder


def without_a_template(self, folder, *, texts, seed):
    TinyModel.prepare(self, folder, texts=texts, seed=seed)
    (folder / "chat_template.jinja").write_text("nothing")
    return folder


def at_random(self, folder, *, texts, seed):
    return TinyModel.prepare(self, folder, texts=texts, seed=random.randrange(1 << 30))


MODELS = {
    "config": ({"prepare": without_a_config}, "test_the_folder_is_complete"),
    "unreadable": ({"prepare": without_a_config}, "test_the_model_speaks"),
    "template": ({"prepare": without_a_template}, "test_the_chat_template_takes_a_conversation"),
    "random": ({"prepare": at_random}, "test_equal_seeds_give_equal_models"),
}


def test_the_model_suite_passes_a_sound_source(tmp_path):
    assert caught(ModelSuite, tmp_path, model_source=Tiny()) == set()


@pytest.mark.parametrize("fault", MODELS)
def test_the_model_suite_catches(tmp_path, fault):
    methods, expected = MODELS[fault]
    assert expected in caught(ModelSuite, tmp_path, model_source=build((Tiny, methods))())
