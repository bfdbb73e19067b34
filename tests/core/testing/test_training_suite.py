"""The suite of training passes a sound implementation, and catches each fault with the right test."""

import json

import pytest

from tumbler.contracts.training import StepReport
from tumbler.testing import (
    CountingSettings,
    CountingTrainer,
    TrainingSuite,
)


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


def test_the_training_suite_passes_a_sound_backend(caught):
    assert caught(TrainingSuite, make_backend=Counting) == set()


@pytest.mark.parametrize("fault", TRAININGS)
def test_the_training_suite_catches(caught, broken, fault):
    methods, expected = TRAININGS[fault]
    assert expected in caught(TrainingSuite, make_backend=broken(Counting, methods))
