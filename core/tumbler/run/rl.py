"""The stage `rl`: plan, roll out, credit, train, publish; one training step after the other."""

import logging
import time
from collections.abc import Sequence

from tumbler.contracts.algorithm import Algorithm, Group, PlannedGroup, PlanState
from tumbler.contracts.batch import CreditedTrajectory
from tumbler.contracts.environment import ExpertEnvironment, Task
from tumbler.contracts.execution import RolloutRequest
from tumbler.contracts.training import StepReport
from tumbler.errors import ContractError
from tumbler.observers import StepMetrics
from tumbler.rollout.scheduler import Collected
from tumbler.run.assembly import environment_key
from tumbler.run.statistics import summarise_rollouts
from tumbler.run.workbench import Stage
from tumbler.trajectory import Trajectory

__all__ = ["run_rl"]

_LOG = logging.getLogger("tumbler.run")


async def run_rl(stage: Stage) -> None:
    """Run the stage from where the state stands."""
    settings = stage.bench.resolved.rl
    training = stage.bench.need_training()
    if stage.bench.state.step == 0:
        training.begin("rl", optimizer_steps=settings.steps * _updates(stage.bench.need_algorithm()))
    await stage.bench.publish()
    state, stopped = stage.bench.state, ""
    for step in range(state.step, settings.steps):
        await _step(stage, step)
        if settings.collapse_patience and state.flat_steps >= settings.collapse_patience:
            stopped = f"no spread of rewards in {state.flat_steps} steps: the policy has collapsed or cannot start"
            _LOG.warning("%s stopped after step %d: %s", stage.info.label, step, stopped)
            await stage.checkpoint()
            break
    stage.finish({"steps": state.step, "stopped": stopped, "checkpoint": state.checkpoint})


async def _step(stage: Stage, step: int) -> None:
    state = stage.bench.state
    started = time.perf_counter()
    algorithm = stage.bench.need_algorithm()
    planned, requests = await _plan(stage, step, algorithm)
    collected = await stage.collect(requests)
    groups = _groups(stage, step, planned, collected)
    batch = _credit(algorithm, groups)
    rolled = time.perf_counter()
    report = await stage.bench.need_training().step(batch, algorithm)
    trained = time.perf_counter()
    await stage.bench.publish()
    used = [each.trajectory for each in batch]
    values = {
        **summarise_rollouts(used),
        **_failures(collected),
        **report.metrics,
        "time/rollout_s": rolled - started,
        "time/train_s": trained - rolled,
        "time/sync_s": time.perf_counter() - trained,
    }
    state.history = values
    state.flat_steps = state.flat_steps + 1 if _is_flat(groups) else 0
    stage.emit_step(StepMetrics(step=step, values=values, samples=report.samples))
    await _write_down(stage, step, report, used, last=step + 1 == stage.bench.resolved.rl.steps)


async def _plan(stage: Stage, step: int, algorithm: Algorithm) -> tuple[Sequence[PlannedGroup], list[RolloutRequest]]:
    """Return the step's groups and their requests, group by group."""
    env = stage.bench.resolved.rl.env
    tasks = await stage.bench.tasks(env, "train", algorithm.tasks_per_step, stage.seed("tasks", step))
    experts = await _experts(stage, step, tasks) if algorithm.wants_experts else {}
    state = PlanState(step=step, seed=stage.seed("plan", step), experts=experts.get, history=stage.bench.state.history)
    planned = algorithm.plan(tasks, state).groups
    if not planned:
        raise ContractError(f"the algorithm planned no rollouts for step {step} from {len(tasks)} tasks")
    requests = [
        stage.request(env, group.task, f"{step}/{index}/{member}", group=f"{step}/{index}", anchor=group.anchor)
        for index, group in enumerate(planned)
        for member in range(group.size)
    ]
    return planned, requests


async def _experts(stage: Stage, step: int, tasks: Sequence[Task]) -> dict[str, Trajectory]:
    """Return a successful expert trajectory for each task whose expert succeeds; none without an expert."""
    env = stage.bench.resolved.rl.env
    if not isinstance(stage.bench.environments[environment_key(env)], ExpertEnvironment):
        return {}
    requests = [stage.request(env, task, f"{step}/expert-{index}", expert=True) for index, task in enumerate(tasks)]
    collected = await stage.collect(requests)
    found = [each for group in collected.trajectories.values() for each in group]
    return {each.header.task: each for each in found if each.success}


def _groups(stage: Stage, step: int, planned: Sequence[PlannedGroup], collected: Collected) -> list[Group]:
    groups = []
    for index, plan in enumerate(planned):
        name = f"{stage.info.label}/{step}/{index}"
        trajectories = tuple(each for each in collected.trajectories[name] if each.judged)
        if trajectories:
            groups.append(Group(id=name, task_id=plan.task.id, trajectories=trajectories, anchor=plan.anchor))
    return groups


def _credit(algorithm: Algorithm, groups: Sequence[Group]) -> list[CreditedTrajectory]:
    batch: list[CreditedTrajectory] = []
    for group in groups:
        credited = algorithm.credit(group)
        shape = [len(each) for each in credited]
        expected = [len(each.chunks) for each in group.trajectories]
        if shape != expected:
            raise ContractError(
                f"the algorithm credited {shape} chunks in group {group.id}, whose trajectories have {expected}"
            )
        batch.extend(
            CreditedTrajectory(trajectory=trajectory, credits=tuple(each))
            for trajectory, each in zip(group.trajectories, credited, strict=True)
        )
    return batch


async def _write_down(stage: Stage, step: int, report: StepReport, used: Sequence[Trajectory], *, last: bool) -> None:
    due = last or (step + 1) % stage.bench.resolved.rl.checkpoint_every == 0
    await stage.finish_step(step, report.optimizer_steps, [each.id for each in used], checkpoint=due)


def _failures(collected: Collected) -> dict[str, float]:
    return {
        "rollout/infra_failed": float(collected.failures),
        "rollout/rerolled": float(collected.failures - collected.lost),
        "rollout/lost": float(collected.lost),
    }


def _is_flat(groups: Sequence[Group]) -> bool:
    rewards = [{each.reward for each in group.trajectories} for group in groups]
    solved = all(each.success for group in groups for each in group.trajectories)
    return not solved and all(len(each) <= 1 for each in rewards)


def _updates(algorithm: Algorithm) -> int:
    return algorithm.update_rule.epochs * algorithm.update_rule.minibatches
