"""The first-party model sources keep the contract of model sources."""

import pytest

from tumbler.testing import ModelSuite
from tumbler_backends.models.folder import FolderModel
from tumbler_backends.models.settings import FolderSettings, TinySettings
from tumbler_backends.models.tiny import TinyModel

SMALL = TinySettings(layers=1, width=16, heads=2, context=64, vocabulary=384)


class TestTiny(ModelSuite):
    @pytest.fixture
    def model_source(self):
        return TinyModel(SMALL)


class TestFolder(ModelSuite):
    @pytest.fixture
    def model_source(self, tmp_path_factory):
        folder = TinyModel(SMALL).prepare(tmp_path_factory.mktemp("made"), texts=["Say a word."], seed=0)
        return FolderModel(FolderSettings(path=str(folder)))
