"""Carries out a resolved run: starts its parts, runs its stages, and takes everything down again."""

import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from tumbler.contracts.execution import Engines
from tumbler.contracts.inference import TextTokenizer
from tumbler.contracts.values import JSONObject
from tumbler.errors import RunError
from tumbler.garbage import rare_collections
from tumbler.observers import RunInfo, StageInfo
from tumbler.plugins import PluginHost
from tumbler.registry import ResolvedRun
from tumbler.rollout.scheduler import Scheduler
from tumbler.run.assembly import (
    Backends,
    build_algorithm,
    build_backends,
    build_environments,
)
from tumbler.run.elsewhere import PlacedEpisodes, distributed_by, open_episodes, place_engines
from tumbler.run.evaluation import run_evaluation
from tumbler.run.files import write_json
from tumbler.run.folder import RunFolder, RunState
from tumbler.run.model import ModelMaker
from tumbler.run.rl import run_rl
from tumbler.run.sft import run_sft
from tumbler.run.watchdog import OnStall
from tumbler.run.workbench import Stage, Workbench
from tumbler.seeding import derive_seed

__all__ = ["execute_run"]

_STAGES = {"sft": run_sft, "rl": run_rl, "eval": run_evaluation}


async def execute_run(
    resolved: ResolvedRun,
    folder: RunFolder,
    state: RunState,
    host: PluginHost,
    *,
    resumed: bool = False,
    on_stall: OnStall | None = None,
) -> JSONObject:
    """Run every stage that `state` leaves to do and return `results.json`.

    Cancelling it, or an error, takes every episode, sandbox and worker down first; the folder then holds
    what a resume needs. `on_stall` is told when a run without progress is about to be taken down.
    """
    started = time.monotonic() - state.seconds
    info = _run_info(resolved, folder, resumed=resumed)
    host.observers.emit("tumbler_run_started", run=info)
    async with _workbench(resolved, folder, state, host, info, started, on_stall) as bench:
        with rare_collections():
            for stage_info in info.stages[state.stage :]:
                host.observers.emit("tumbler_stage_started", run=info, stage=stage_info)
                await _STAGES[stage_info.kind](Stage(bench, stage_info))
    state.finished = True
    state.seconds = time.monotonic() - started
    folder.write_state(state)
    results: JSONObject = {
        "name": resolved.name,
        "seed": resolved.seed,
        "stages": list(state.results),
        "optimizer_steps": state.optimizer_steps,
        "seconds": round(state.seconds, 3),
    }
    write_json(folder.path / "results.json", results)
    host.observers.emit("tumbler_run_finished", run=info, result=results)
    return results


def _run_info(resolved: ResolvedRun, folder: RunFolder, *, resumed: bool) -> RunInfo:
    return RunInfo(
        id=f"{resolved.name}-{os.getpid()}-{time.time_ns()}",
        name=resolved.name,
        folder=folder.path,
        resolved=resolved.to_json(),
        stages=tuple(
            StageInfo(index=index, kind=kind, label=f"{index}-{kind}", steps=_length(resolved, kind))
            for index, kind in enumerate(resolved.stages, 1)
        ),
        resumed=resumed,
    )


def _length(resolved: ResolvedRun, kind: str) -> int:
    if kind == "eval":
        return resolved.eval.episodes * len(resolved.eval.envs)
    return resolved.sft.steps if kind == "sft" else resolved.rl.steps


@asynccontextmanager
async def _workbench(
    resolved: ResolvedRun,
    folder: RunFolder,
    state: RunState,
    host: PluginHost,
    info: RunInfo,
    started: float,
    on_stall: OnStall | None,
) -> AsyncIterator[Workbench]:
    """Start everything in order, yield it, and take it down in reverse order."""
    backends = build_backends(resolved, host)
    environments = build_environments(resolved, host)
    async with AsyncExitStack() as stack:
        if backends.sandbox is not None:
            stack.push_async_callback(backends.sandbox.close)
            await backends.sandbox.start()
        models = ModelMaker(resolved, folder, state, host, environments, backends.sandbox)
        if distributed_by(backends.execution) is not None:
            # It may run the engines, too, so it is closed after them; by then no rollout is in flight.
            stack.push_async_callback(backends.execution.close)
        backends = await place_engines(backends, resolved, host, folder=folder.path)
        await _start_engines(stack, backends, resolved, folder, state, models)
        await _start_execution(stack, backends, resolved, host)
        instances = {key: each.build() for key, each in environments.items()}
        for instance in instances.values():
            stack.push_async_callback(instance.close)
        yield Workbench(
            resolved=resolved,
            host=host,
            folder=folder,
            state=state,
            info=info,
            environments=instances,
            scheduler=Scheduler(
                backends.execution, attempts=resolved.rl.attempts, failure_share=resolved.rl.max_infra_failures
            ),
            inference=backends.inference,
            training=backends.training,
            algorithm=build_algorithm(resolved, host),
            started=started,
            on_stall=on_stall,
        )


async def _start_execution(stack: AsyncExitStack, backends: Backends, resolved: ResolvedRun, host: PluginHost) -> None:
    """Make ready to run episodes: in other processes, or in this one with the gateway beside them."""
    engines = Engines(policy=backends.inference, teacher=backends.teacher)
    distributed = distributed_by(backends.execution)
    if distributed is not None:
        await distributed.start_workers(PlacedEpisodes(run=resolved.to_json(), versions=host.versions()), engines)
        return
    if backends.gateway is not None:
        stack.push_async_callback(backends.gateway.close)
        await backends.gateway.start()
    # Anchors that were prepared for forks are let go of when no episode can use them any more.
    runner = await stack.enter_async_context(open_episodes(resolved, host, engines, backends.sandbox, backends.gateway))
    stack.push_async_callback(backends.execution.close)
    await backends.execution.start(runner)


async def _start_engines(
    stack: AsyncExitStack,
    backends: Backends,
    resolved: ResolvedRun,
    folder: RunFolder,
    state: RunState,
    models: ModelMaker,
) -> None:
    model = await models.model()
    stack.push_async_callback(backends.inference.close)
    await backends.inference.start(model)
    if backends.teacher is not None:
        stack.push_async_callback(backends.teacher.close)
        await backends.teacher.start(await models.teacher())
        _check_tokenizers(policy=backends.inference.tokenizer, teacher=backends.teacher.tokenizer)
    if backends.training is None:
        return
    stack.push_async_callback(backends.training.close)
    await backends.training.start(model, seed=derive_seed(resolved.seed, "training") % 2**31)
    if state.checkpoint is not None:
        await backends.training.load(folder.path / state.checkpoint)


def _check_tokenizers(*, policy: TextTokenizer, teacher: TextTokenizer) -> None:
    """Raise `RunError` unless both have the same vocabulary and chat template: anchors replay token ids."""
    if policy.fingerprint != teacher.fingerprint:
        raise RunError(
            f"the teacher's tokenizer ({teacher.fingerprint}) is not the policy's ({policy.fingerprint}), and its "
            "trajectories are replayed token by token; choose a teacher of the same model family with the same "
            'chat template, or another source of experts: rl.experts.source = "environment" or "self"'
        )
