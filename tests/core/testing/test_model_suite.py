"""The suite of model sources passes a sound implementation, and catches each fault with the right test."""

import random

import pytest

from tumbler.testing import (
    ModelSuite,
)
from tumbler_backends.models.settings import TinySettings
from tumbler_backends.models.tiny import TinyModel


class Tiny(TinyModel):
    def __init__(self):
        super().__init__(TinySettings(layers=1, width=16, heads=2, context=64, vocabulary=384))


def without_a_config(self, folder, *, texts, seed):
    TinyModel.prepare(self, folder, texts=texts, seed=seed)
    (folder / "config.json").unlink()
    return folder


def without_a_template(self, folder, *, texts, seed):
    TinyModel.prepare(self, folder, texts=texts, seed=seed)
    (folder / "chat_template.jinja").write_text("nothing")
    return folder


def at_random(self, folder, *, texts, seed):
    return TinyModel.prepare(self, folder, texts=texts, seed=random.randrange(1 << 30))


MODELS = {
    "config": ({"prepare": without_a_config}, "test_the_folder_is_complete"),
    "unreadable": ({"prepare": without_a_config}, "test_the_model_speaks"),
    "template": ({"prepare": without_a_template}, "test_the_chat_template_takes_a_conversation"),
    "random": ({"prepare": at_random}, "test_equal_seeds_give_equal_models"),
}


def test_the_model_suite_passes_a_sound_source(caught):
    assert caught(ModelSuite, model_source=Tiny()) == set()


@pytest.mark.parametrize("fault", MODELS)
def test_the_model_suite_catches(caught, broken, fault):
    methods, expected = MODELS[fault]
    assert expected in caught(ModelSuite, model_source=broken(Tiny, methods)())
