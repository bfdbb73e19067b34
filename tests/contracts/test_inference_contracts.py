"""The first-party inference backends, and the kit's script, keep the contract of inference backends."""

import pytest

from tumbler.testing import InferenceSuite, ScriptedInference
from tumbler_backends.inference.transformers.backend import TransformersInference
from tumbler_backends.inference.transformers.settings import TransformersSettings
from tumbler_backends.models.settings import TinySettings
from tumbler_backends.models.tiny import TinyModel


class TestScripted(InferenceSuite):
    @pytest.fixture
    def make_backend(self):
        return lambda: ScriptedInference(lambda prompt: "word")


class TestTransformers(InferenceSuite):
    @pytest.fixture
    def make_backend(self):
        return lambda: TransformersInference(TransformersSettings(threads=1, cache_bytes=1 << 24))

    @pytest.fixture
    def model_folder(self, tiny_model):
        return tiny_model


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    settings = TinySettings(layers=1, width=32, heads=2, context=512, vocabulary=512)
    return TinyModel(settings).prepare(tmp_path_factory.mktemp("model"), texts=["Say a word."], seed=0)
