"""The stage `rl`: plan, roll out, credit, train, publish; one training step after the other.

Rollouts may run ahead of training; see `tumbler.run.waves`.
"""

import logging
import time
from collections import Counter
from collections.abc import Sequence

from tumbler.contracts.algorithm import Algorithm, Group
from tumbler.contracts.batch import CreditedTrajectory
from tumbler.contracts.training import StepReport
from tumbler.contracts.values import JSON
from tumbler.observers import StepMetrics
from tumbler.run.credit import credit_groups
from tumbler.run.experts import ExpertBook
from tumbler.run.files import write_json
from tumbler.run.learning import crucial_chunks, learnt_state, observe, restore
from tumbler.run.staleness import mask_stale, summarise_staleness
from tumbler.run.statistics import summarise_anchors, summarise_cuts, summarise_rollouts
from tumbler.run.tasks import StepTasks
from tumbler.run.waves import RolledStep, Waves
from tumbler.run.workbench import Stage

__all__ = ["run_rl"]

_LOG = logging.getLogger("tumbler.run")


async def run_rl(stage: Stage) -> None:
    """Run the stage from where the state stands."""
    settings, state = stage.bench.resolved.rl, stage.bench.state
    algorithm = stage.bench.need_algorithm()
    if state.step == 0:
        stage.bench.need_training().begin("rl", optimizer_steps=settings.steps * _updates(algorithm))
    restore(algorithm, state.learnt)
    await stage.publish()
    book, stopped = ExpertBook(stage), ""
    tasks = StepTasks(stage, per_step=algorithm.tasks_per_step)
    async with Waves(stage, tasks, book) as waves, stage.watch():
        while state.step < settings.steps and not stopped:
            stopped = _reason_to_stop(stage)
            if stopped:
                state.learnt = learnt_state(algorithm)
                await stage.checkpoint()
            else:
                await _step(stage, state.step, waves, book)
    stage.finish({"steps": state.step, "stopped": stopped, "checkpoint": state.checkpoint, **_findings(stage)})


def _reason_to_stop(stage: Stage) -> str:
    settings, state = stage.bench.resolved.rl, stage.bench.state
    if settings.token_budget and state.sampled_tokens >= settings.token_budget:
        return f"{state.sampled_tokens} tokens are sampled, and the budget is {settings.token_budget}"
    if settings.collapse_patience and state.flat_steps >= settings.collapse_patience:
        reason = f"no spread of rewards in {state.flat_steps} steps: the policy has collapsed or cannot start"
        _LOG.warning("%s stopped after %d steps: %s", stage.info.label, state.step, reason)
        return reason
    return ""


async def _step(stage: Stage, step: int, waves: Waves, book: ExpertBook) -> None:
    state, algorithm = stage.bench.state, stage.bench.need_algorithm()
    started, sampled = time.perf_counter(), state.sampled_tokens
    waves.allow(step)
    rolled = await waves.take(step)
    observed = observe(algorithm, rolled.seen)
    book.learn(step, (each for group in rolled.seen for each in group.trajectories))
    fresh, staleness = _fresh(stage, rolled)
    batch = credit_groups(algorithm, fresh)
    collected = time.perf_counter()
    report = await _train(stage, step, batch)
    trained = time.perf_counter()
    if (step + 1) % stage.bench.resolved.rl.publish_every == 0:
        await stage.publish()
    values = {
        **_figures(rolled),
        **staleness,
        "rollout/sampled_tokens": float(state.sampled_tokens - sampled),
        "rollout/lost_experts": float(book.lost[step]),
        **observed,
        **report.metrics,
        "time/rollout_s": collected - started,
        "time/train_s": trained - collected,
        "time/sync_s": time.perf_counter() - trained,
    }
    state.history = values
    state.flat_steps = state.flat_steps + 1 if _is_flat(rolled.seen) else 0
    stage.emit_step(StepMetrics(step=step, values=values, samples=report.samples))
    await _write_down(stage, step, report, batch, rolled)


def _fresh(stage: Stage, rolled: RolledStep) -> tuple[list[Group], dict[str, float]]:
    """Return the groups to train, without what is too old, and the figures on how old it is."""
    settings, version = stage.bench.resolved.rl, stage.bench.need_training().version
    # Weights that are published late make every rollout older, on purpose.
    bound = settings.max_staleness + settings.publish_every - 1
    figures = summarise_staleness(rolled.kept, version=version, bound=bound)
    if settings.stale_chunks == "keep":
        return rolled.kept, figures
    return mask_stale(rolled.kept, version=version, bound=bound), figures


async def _train(stage: Stage, step: int, batch: Sequence[CreditedTrajectory]) -> StepReport:
    if not batch:
        _LOG.warning("%s step %d trains nothing: no trajectory was kept", stage.info.label, step)
        return StepReport(optimizer_steps=0, metrics={})
    with stage.training():
        return await stage.bench.need_training().step(batch, stage.bench.need_algorithm())


async def _write_down(
    stage: Stage, step: int, report: StepReport, batch: Sequence[CreditedTrajectory], rolled: RolledStep
) -> None:
    settings = stage.bench.resolved.rl
    due = stage.checkpoint_due(step, steps=settings.steps, every=settings.checkpoint_every)
    if due:
        stage.bench.state.learnt = learnt_state(stage.bench.need_algorithm())
    await stage.finish_step(
        step,
        report.optimizer_steps,
        [each.trajectory.id for each in batch],
        checkpoint=due,
        dropped=rolled.collected.dropped,
        refused=rolled.refused,
    )


def _figures(rolled: RolledStep) -> dict[str, float]:
    collected = rolled.collected
    dropped = sum(collected.dropped.values())
    return {
        **summarise_rollouts([each for group in rolled.seen for each in group.trajectories]),
        **summarise_anchors(rolled.seen),
        **summarise_cuts(collected.spans),
        "rollout/infra_failed": float(collected.failures),
        "rollout/rerolled": float(collected.failures - collected.lost),
        "rollout/lost": float(collected.lost),
        "rollout/dropped": float(dropped),
        "rollout/refused_groups": float(sum(rolled.refused.values())),
        "rollout/replaced_groups": float(rolled.replaced),
    }


def _findings(stage: Stage) -> dict[str, JSON]:
    """Return what the whole stage found out, for its result: what was refused, and which chunks are crucial."""
    found: dict[str, JSON] = {}
    steps = stage.journal.used()
    for name, reasons in (
        ("dropped", sum((Counter(each.dropped) for each in steps), Counter())),
        ("refused", sum((Counter(each.refused) for each in steps), Counter())),
    ):
        if reasons:
            found[name] = dict(sorted(reasons.items()))
    crucial = crucial_chunks(stage.bench.state.learnt)
    if crucial is not None:
        write_json(stage.bench.folder.stage(stage.info.label) / "crucial.json", crucial)
        found["crucial"] = crucial
    return found


def _is_flat(groups: Sequence[Group]) -> bool:
    rewards = [{each.reward for each in group.trajectories} for group in groups]
    solved = all(each.success for group in groups for each in group.trajectories)
    return not solved and all(len(each) <= 1 for each in rewards)


def _updates(algorithm: Algorithm) -> int:
    return algorithm.update_rule.epochs * algorithm.update_rule.minibatches
