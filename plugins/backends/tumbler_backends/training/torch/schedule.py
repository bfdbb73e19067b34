"""The learning rate of each optimizer step; knows no optimizer."""

import math

from tumbler_backends.training.torch.settings import OptimizerSettings

__all__ = ["learning_rate"]


def learning_rate(settings: OptimizerSettings, *, step: int, steps: int) -> float:
    """Return the learning rate of optimizer step `step`, counted from 0, of a phase of `steps`.

    The warm-up climbs to the highest rate; `cosine` and `linear` then fall towards the lowest, which they
    reach at step `steps`, so that the phase's last step still moves the weights. Steps beyond stay there.
    """
    highest, lowest = settings.learning_rate, settings.min_learning_rate
    if step < settings.warmup_steps:
        return highest * (step + 1) / settings.warmup_steps
    if settings.schedule == "constant":
        return highest
    progress = min(1.0, (step - settings.warmup_steps) / max(1, steps - settings.warmup_steps))
    remaining = 1 - progress if settings.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return lowest + (highest - lowest) * remaining
