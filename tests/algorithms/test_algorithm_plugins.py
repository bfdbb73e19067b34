"""How the algorithms are offered, and what importing them costs."""

import importlib
import json
import subprocess
import sys

import pytest

from tumbler.config import Settings
from tumbler.contracts.algorithm import Algorithm
from tumbler.specs import AlgorithmSpec

NAMES = (
    "ipa",
    "reinforce",
    "grpo",
    "gspo",
    "ppo",
    "tis",
    "topr",
    "cispo",
    "gigpo",
    "ipa_token",
    "ipa_trajectory",
)
"""The packages; an algorithm's own name has hyphens."""

HEAVY = ("torch", "transformers", "pydantic")


def loaded_by(code):
    """The heavy packages that a fresh interpreter holds after running the code."""
    script = f"{code}\nimport json, sys\nprint(json.dumps([name for name in {HEAVY} if name in sys.modules]))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return json.loads(result.stdout)


def spec_of(name):
    (spec,) = importlib.import_module(f"tumbler_algorithms.{name}.plugin").tumbler_algorithms()
    return spec


@pytest.mark.parametrize("name", NAMES)
def test_a_spec_says_what_a_run_needs_and_loads_an_algorithm(name):
    spec = spec_of(name)
    assert isinstance(spec, AlgorithmSpec)
    assert (spec.name, spec.extra, spec.needs) == (
        name.replace("_", "-"),
        "train",
        ("training", "inference", "execution"),
    )
    assert issubclass(spec.config(), Settings)
    assert isinstance(spec.load()(spec.config()()), Algorithm)


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_is_described(name):
    schema = spec_of(name).config().model_json_schema()
    tables = [schema, *schema.get("$defs", {}).values()]
    assert all("description" in field for table in tables for field in table["properties"].values())


def test_the_plugin_modules_import_nothing_heavy():
    imports = "\n".join(f"import tumbler_algorithms.{name}.plugin" for name in NAMES)
    assert loaded_by(imports) == []


def test_plan_and_credit_need_no_torch():
    code = f"""
from importlib import import_module
from tumbler.contracts.algorithm import Group, PlanState
from tumbler.contracts.environment import Task
from tumbler.trajectory import Chunk, Component, Header, Segment, Trajectory
part = Component(id="x", version="1", settings_hash="0")
chunks = tuple(Chunk(segment=0, start=i, end=i + 1) for i in range(3))
header = Header(id="t", task="t", env=part, agent=part)
segment = Segment(id=0, token_ids=(1, 2, 3))
record = Trajectory(header=header, segments=(segment,), chunks=chunks, reward=1.0, success=True)
for name in {NAMES}:
    (spec,) = import_module(f"tumbler_algorithms.{{name}}.plugin").tumbler_algorithms()
    algorithm = spec.load()(spec.config()())
    algorithm.plan([Task(id="t", instruction="do")], PlanState(step=0, seed=0, experts=lambda _: record))
    algorithm.credit(Group(id="g", task_id="t", trajectories=(record, record)))
"""
    assert loaded_by(code) == ["pydantic"]


def test_the_loss_modules_are_what_imports_torch():
    code = f"""
import importlib, sys
sys.modules["torch"] = None
for name in {NAMES}:
    try:
        importlib.import_module(f"tumbler_algorithms.{{name}}.loss")
    except ImportError as error:
        assert "torch" in str(error), error
    else:
        sys.exit(f"{{name}}.loss does without torch")
del sys.modules["torch"]
"""
    assert loaded_by(code) == ["pydantic"]
