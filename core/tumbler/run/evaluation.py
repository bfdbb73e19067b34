"""The stage `eval`: the policy on tasks that training never saw, with intervals."""

import asyncio
from dataclasses import replace

from tumbler.contracts.values import JSON
from tumbler.registry import ResolvedComponent
from tumbler.run.statistics import summarise_evaluation
from tumbler.run.workbench import Stage
from tumbler.seeding import derive_seed

__all__ = ["run_evaluation"]


async def run_evaluation(stage: Stage) -> None:
    """Run the stage: all episodes concurrently, those of an environment before the next one's where places are few.

    Tasks and sampling seeds depend on the evaluation's own seed alone, so that evaluations before and
    after a training stage are paired.
    """
    settings = stage.bench.resolved.eval
    await stage.publish()
    evaluating = [asyncio.ensure_future(_evaluate(stage, env, rank)) for rank, env in enumerate(settings.envs)]
    try:
        found = await asyncio.gather(*evaluating)
    finally:
        for each in evaluating:
            each.cancel()
        await asyncio.gather(*evaluating, return_exceptions=True)
    entries: dict[str, JSON] = {env.label: entry for env, entry in zip(settings.envs, found, strict=True)}
    after = stage.bench.state.results[-1]["label"] if stage.bench.state.results else None
    stage.finish({"after": after, "split": settings.split, "temperature": settings.temperature, "envs": entries})


async def _evaluate(stage: Stage, env: ResolvedComponent, rank: int) -> JSON:
    settings = stage.bench.resolved.eval
    sampling = replace(stage.bench.resolved.sampling, temperature=settings.temperature)
    tasks = await stage.bench.tasks(env, settings.split, settings.episodes, settings.seed)
    requests = [
        stage.request(
            env,
            task,
            f"{env.label}/{index}",
            sampling=sampling,
            seed=derive_seed(settings.seed, env.label, index),
        )
        for index, task in enumerate(tasks)
    ]
    collected = await stage.collect(requests, rank=rank)
    trajectories = [each for group in collected.trajectories.values() for each in group]
    return {**summarise_evaluation(trajectories), "infra_failed": collected.failures, "lost": collected.lost}
