"""Where expert trajectories come from, as a registry says it."""

import json

import jsonschema
import pytest

from tumbler.errors import RegistryError
from tumbler.registry import ExpertSource, json_schema, run_from_json


def test_the_environment_gives_the_experts_by_default(resolve):
    assert resolve("smoke").rl.experts == ExpertSource()


def test_a_teacher_is_another_instance_of_the_runs_own_backend_unless_it_names_one(resolve):
    own = resolve("smoke", "runs.smoke.rl.experts={ source = 'teacher', teacher = { model = 'folder' } }")
    assert own.rl.experts.teacher == own.backends["inference"]
    assert own.rl.experts.teacher_model.id == "folder"
    other = resolve("smoke", "runs.smoke.rl.experts={ source = 'teacher', teacher = { inference = 'engine' } }")
    assert other.rl.experts.teacher.id == "engine"
    assert other.rl.experts.teacher_model is None


def test_a_teacher_is_left_alone_under_another_source(resolve):
    run = resolve("smoke", "runs.smoke.rl.experts={ source = 'self', teacher = { model = 'folder' } }")
    assert (run.rl.experts.teacher, run.rl.experts.teacher_model) == (None, None)


@pytest.mark.parametrize(
    ("override", "path", "words"),
    [
        ("experts={ source = 'teacher' }", "runs.smoke.rl.experts.teacher", "no teacher is named; add a teacher"),
        (
            "experts={ source = 'teacher', teacher = { inference = 'optimizer' } }",
            "runs.smoke.rl.experts.teacher.inference",
            "cannot do inference; it does training",
        ),
        (
            "experts={ source = 'teacher', teacher = { model = 'foldr' } }",
            "runs.smoke.rl.experts.teacher.model",
            "did you mean 'folder'?",
        ),
        ("experts={ source = 'elf' }", "runs.smoke.rl.experts.source", "'environment', 'self' or 'teacher'"),
        ("experts={ attempt = 3 }", "runs.smoke.rl.experts.attempt", "did you mean 'attempts'?"),
    ],
)
def test_a_mistake_in_the_table_is_named_at_its_place(resolve, override, path, words):
    with pytest.raises(RegistryError) as caught:
        resolve("smoke", f"runs.smoke.rl.{override}")
    assert {problem.path for problem in caught.value.problems} == {path}
    assert words in str(caught.value)


def test_everything_survives_json(resolve):
    run = resolve(
        "smoke",
        "runs.smoke.rl.experts={ source = 'teacher', teacher = { model = 'folder' }, refresh_every = 4 }",
        "runs.smoke.rl.pool=64",
        "runs.smoke.rl.max_replacements=0",
        "runs.smoke.rl.anchors='fork'",
        "runs.smoke.sft.relevance=['no-effect']",
    )
    assert run_from_json(json.loads(json.dumps(run.to_json()))) == run


def test_a_run_json_of_the_time_before_these_keys_has_their_defaults(resolve):
    run = resolve("smoke")
    value = run.to_json()
    for key in ("max_replacements", "pool", "anchors", "experts"):
        del value["rl"][key]
    del value["sft"]["relevance"]
    assert run_from_json(value) == run


def test_the_schema_knows_a_teachers_components(host, valid):
    validator = jsonschema.Draft202012Validator(json_schema(host))

    def mistakes(teacher):
        run = {"env": "path", "stages": ["rl"], "rl": {"experts": {"source": "teacher", "teacher": teacher}}}
        return list(validator.iter_errors({"schema": 1, "runs": {"a": run}}))

    assert not mistakes({"inference": {"use": "engine"}, "model": "folder"})
    assert mistakes({"inference": {"use": "optimizer"}})
    assert mistakes({"modle": "folder"})
