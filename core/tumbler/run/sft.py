"""The stage `sft`: gather an expert's demonstrations, then take supervised steps on them."""

from collections.abc import Iterator, Sequence
from random import Random

from tumbler.errors import RunError
from tumbler.observers import StepMetrics
from tumbler.run.relevance import relevant_chunks
from tumbler.run.workbench import Stage
from tumbler.seeding import derive_seed
from tumbler.trajectory import Trajectory

__all__ = ["run_sft"]


async def run_sft(stage: Stage) -> None:
    """Run the stage from where the state stands."""
    settings = stage.bench.resolved.sft
    training = stage.bench.need_training()
    demonstrations = await _demonstrations(stage)
    if stage.bench.state.step == 0:
        training.begin("sft", optimizer_steps=settings.steps)
    order = _batches(demonstrations, settings.batch_size, stage.seed("order"))
    for step, batch in zip(range(settings.steps), order, strict=False):
        if step < stage.bench.state.step:
            continue
        with stage.training():
            report = await training.fit_sft(batch)
        stage.emit_step(StepMetrics(step=step, values=report.metrics, samples=report.samples))
        due = stage.checkpoint_due(step, steps=settings.steps, every=settings.checkpoint_every)
        await stage.finish_step(step, report.optimizer_steps, [each.id for each in batch], checkpoint=due)
    await stage.publish()
    tokens = sum(chunk.end - chunk.start for each in demonstrations for chunk in each.chunks)
    stage.finish(
        {
            "steps": settings.steps,
            "demonstrations": len(demonstrations),
            "demonstration_tokens": tokens,
            "checkpoint": stage.bench.state.checkpoint,
        }
    )


async def _demonstrations(stage: Stage) -> list[Trajectory]:
    """Return the expert's successful episodes, with what the rules find irrelevant marked so."""
    settings = stage.bench.resolved.sft
    seed = derive_seed(stage.bench.resolved.seed, "sft", "tasks")
    tasks = await stage.bench.tasks(settings.env, "train", settings.demonstrations, seed)
    requests = [
        stage.request(settings.env, task, f"demonstration-{index}", source="expert") for index, task in enumerate(tasks)
    ]
    collected = await stage.collect(requests)
    found = [each for group in collected.trajectories.values() for each in group if each.success]
    if not found:
        raise RunError(
            f"no expert episode of environment {settings.env.label!r} ended in success, so there is nothing to "
            "imitate; look at the stage's trajectories.jsonl for what went wrong"
        )
    return [relevant_chunks(each, settings.relevance) for each in found]


def _batches(demonstrations: Sequence[Trajectory], size: int, seed: int) -> Iterator[list[Trajectory]]:
    """Yield batches for ever; each pass over the demonstrations has an order of its own."""
    batch: list[Trajectory] = []
    epoch = 0
    while True:
        order = list(demonstrations)
        Random(derive_seed(seed, epoch)).shuffle(order)
        for each in order:
            batch.append(each)
            if len(batch) == size:
                yield batch
                batch = []
        epoch += 1
