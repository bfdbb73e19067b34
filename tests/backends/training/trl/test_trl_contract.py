"""The trl training backend keeps the contract of training backends."""

import pytest

from tumbler.testing import TrainingSuite
from tumbler_backends.models.settings import TinySettings
from tumbler_backends.models.tiny import TinyModel
from tumbler_backends.training.trl.backend import TRLTraining
from tumbler_backends.training.trl.settings import OptimizerSettings, TRLTrainingSettings


class TestTRL(TrainingSuite):
    @pytest.fixture
    def make_backend(self):
        settings = TRLTrainingSettings(rl=OptimizerSettings(learning_rate=1e-3), threads=1)
        return lambda: TRLTraining(settings)

    @pytest.fixture
    def model_folder(self, tiny_model):
        return tiny_model


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    settings = TinySettings(layers=1, width=16, heads=2, context=64, vocabulary=384)
    return TinyModel(settings).prepare(tmp_path_factory.mktemp("model"), texts=["Say a word."], seed=0)
