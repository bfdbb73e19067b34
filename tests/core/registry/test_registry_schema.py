"""The JSON Schema accepts what the check accepts, and refuses what an editor should underline."""

import tomllib

import jsonschema
import pytest

from tumbler.registry import json_schema


@pytest.fixture
def schema(host):
    return json_schema(host)


@pytest.fixture
def mistakes(schema):
    """Return the JSON paths at which a registry's text breaks the schema."""
    validator = jsonschema.Draft202012Validator(schema)

    def found(text):
        return {error.json_path for error in validator.iter_errors(tomllib.loads(text))}

    return found


def test_the_schema_is_itself_valid(schema):
    jsonschema.Draft202012Validator.check_schema(schema)


def test_a_valid_registry_keeps_the_schema(mistakes, valid):
    assert mistakes(valid) == set()


@pytest.mark.parametrize(
    ("replaced", "by", "path"),
    [
        ("schema = 1", "", "$"),
        ("schema = 1", "schema = 2", "$.schema"),
        ("size = 7", "size = '7'", "$.envs.path.size"),
        ("size = 7", "sise = 7", "$.envs.path"),
        ('use = "trail"', 'use = "trial"', "$.envs.path.use"),
        ('use = "trail"', "", "$.envs.path"),
        ('use = "shop/maze"\nsize = 3', 'use = "shop/maze"', "$.envs.maze"),
        ('{ env = "SHOP_KEY" }', '"abc"', "$.backends.cloud.api_key"),
        ("threshold = 0.5", "treshold = 0.5", "$.agents.coder.context[1]"),
        ('env = "path"', "env = 3", "$.runs.smoke.env"),
        ("seed = 3", "sed = 3", "$.runs.smoke"),
        ("turns = 8", "turns = 0", "$.runs.smoke.limits.turns"),
        ("gamma = 0.99 }", "gama = 0.99 }", "$.runs.long.algorithm"),
        ('inference = "engine"', 'inference = { use = "local" }', "$.runs.smoke.backends.inference"),
        ('stages = ["sft", ', 'stages = ["sftt", ', "$.runs.smoke.stages[0]"),
    ],
)
def test_a_mistake_is_underlined_at_its_place(mistakes, valid, replaced, by, path):
    assert replaced in valid
    assert path in mistakes(valid.replace(replaced, by, 1))


def test_descriptions_come_from_the_docstrings_under_the_fields(schema):
    assert schema["$defs"]["environment.trail"]["properties"]["size"]["description"] == "Steps to the end."
    assert schema["$defs"]["environment.trail"]["description"] == "Follow it."
    assert schema["$defs"]["RunTable"]["properties"]["env"]["description"].startswith("The environment.")


def test_variables_may_stand_for_text_but_not_for_numbers(mistakes, valid):
    assert mistakes(valid.replace("size = 3", 'size = 3\ntheme = { env = "THEME" }')) == set()
    assert "$.envs.maze.size" in mistakes(valid.replace("size = 3", 'size = { env = "SIZE" }'))
