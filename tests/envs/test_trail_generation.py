"""What tasks are drawn: enough of them, apart from each other, solvable in one way only."""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections import Counter
from random import Random

import pytest

from tumbler.contracts.environment import Task
from tumbler.errors import ContractError, RunError
from tumbler_envs.trail import generation
from tumbler_envs.trail.environment import TrailEnvironment
from tumbler_envs.trail.generation import SPLITS, draw_trail, generate_tasks
from tumbler_envs.trail.layout import Trail
from tumbler_envs.trail.settings import TrailSettings
from tumbler_envs.trail.words import VALUE

SMALL = TrailSettings(steps=1, branching=1, distractors=0, kinds=("pointer",))
LARGE = TrailSettings(steps=16, branching=5, distractors=16)


def drawn(settings, count=200):
    return [draw_trail(settings, Random(seed)) for seed in range(count)]


@pytest.mark.parametrize("settings", [SMALL, TrailSettings()])
def test_no_task_is_both_for_training_and_held_out(settings):
    ids = {
        split: {task.id for seed in range(4) for task in generate_tasks(settings, split, count=1000, seed=seed)}
        for split in SPLITS
    }
    assert not ids["train"] & ids["held-out"]
    assert min(map(len, ids.values())) > 3000


def test_the_content_alone_decides_the_split():
    for split, parity in (("train", 0), ("held-out", 1)):
        for task in generate_tasks(TrailSettings(), split, count=300, seed=9):
            assert int(Trail.from_task(task).digest, 16) % 2 == parity
            assert task.split == split


def test_equal_content_has_one_id_and_other_content_another():
    trails = drawn(TrailSettings(), 100)
    assert len({trail.digest for trail in trails}) == 100
    assert drawn(TrailSettings(), 100) == trails


def test_the_tasks_of_a_call_differ_and_fewer_are_a_prefix_of_more():
    tasks = generate_tasks(SMALL, "train", count=2000, seed=0)
    assert len({task.id for task in tasks}) == 2000
    assert generate_tasks(SMALL, "train", count=50, seed=0) == tasks[:50]
    assert generate_tasks(SMALL, "train", count=50, seed=1) != tasks[:50]


def test_settings_that_allow_few_tasks_give_them_all_and_end(monkeypatch):
    monkeypatch.setattr(generation, "NAMES", generation.NAMES[:10])
    monkeypatch.setattr(generation, "_NUMBERS", range(10, 20))
    found = [{task.id for task in generate_tasks(SMALL, split, count=5000, seed=0)} for split in SPLITS]
    possible = 16 * 10 * 10  # labels, names, values
    assert 0.95 * possible < len(found[0] | found[1]) <= possible
    assert not found[0] & found[1]


def test_another_process_draws_the_same_tasks():
    script = (
        "from tumbler_envs.trail.generation import generate_tasks as g\n"
        "from tumbler_envs.trail.settings import TrailSettings\n"
        "print(*(task.id for task in g(TrailSettings(), 'train', count=5, seed=3)))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77"}
    output = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert output.stdout.split() == [task.id for task in generate_tasks(TrailSettings(), "train", count=5, seed=3)]


def test_a_task_survives_json():
    for task in generate_tasks(LARGE, "train", count=20, seed=0):
        again = Task(id=task.id, instruction=task.instruction, metadata=json.loads(json.dumps(task.metadata)))
        assert Trail.from_task(again) == Trail.from_task(task)


@pytest.mark.parametrize("metadata", [{}, {"files": {}}, {"archives": [], "kinds": []}])
def test_a_task_of_another_environment_is_refused(metadata):
    with pytest.raises(ContractError, match="no task of the environment trail"):
        Trail.from_task(Task(id="maze-1", instruction="", metadata=metadata))


def test_an_unknown_split_is_refused():
    with pytest.raises(RunError, match="no split 'test'; it has train and held-out"):
        asyncio.run(TrailEnvironment(TrailSettings()).tasks("test", count=1, seed=0))


@pytest.mark.parametrize("kind", ["pointer", "archive", "compute"])
def test_only_the_kinds_of_steps_that_are_enabled_occur(kind):
    for trail in drawn(TrailSettings(steps=(1, 6), kinds=(kind,), distractors=5), 100):
        assert set(trail.kinds) == {kind}
        assert bool(trail.archives) == (kind == "archive")
        assert any(re.search(" plus | minus ", text) for text in trail.files.values()) == (kind == "compute")


def test_the_number_of_steps_is_drawn_from_the_range():
    counts = Counter(len(trail.kinds) for trail in drawn(TrailSettings(steps=(2, 5)), 400))
    assert sorted(counts) == [2, 3, 4, 5]
    assert min(counts.values()) > 60


@pytest.mark.parametrize("settings", [SMALL, TrailSettings(), LARGE, LARGE.model_copy(update={"kinds": ("archive",)})])
def test_nothing_that_shows_at_the_start_is_the_answer(settings):
    for trail in drawn(settings):
        shown = set(re.findall(r"\w+", " ".join([trail.instruction, *trail.contents])))
        assert trail.answer not in shown
        assert trail.output not in trail.contents
        assert len(trail.instruction.split()) <= 30


@pytest.mark.parametrize("kind", ["archive", "compute"])
def test_no_text_file_gives_the_answer_away(kind):
    """Behind archives it is not yet unpacked, and what must be computed is written nowhere."""
    for trail in drawn(TrailSettings(steps=(1, 8), kinds=(kind,))):
        assert not re.search(rf"{VALUE} {trail.answer}\b", "".join(trail.files.values()))
        packed = "".join(packed.text for packed in trail.archives.values())
        assert bool(re.search(rf"{VALUE} {trail.answer}\b", packed)) == (kind == "archive")


def ways(text):
    return dict(line.split(" ", 1) for line in text.splitlines())


def text_of(trail, name):
    packed = trail.archives.get(name)
    return packed.text if packed else trail.files.get(name)


def resolve(way):
    """Return the file that a way leads to."""
    if match := re.fullmatch(r"compute (\d+) (plus|minus) (\d+)", way):
        first, second = int(match[1]), int(match[3])
        return str(first + second if match[2] == "plus" else first - second)
    return way.split(" ")[1]


def reach(trail, target):
    """Return all files that can be reached by any ways from the target."""
    found, open_ends = set(), [target]
    while open_ends:
        name = resolve(open_ends.pop())
        text = text_of(trail, name)
        if text is not None and name not in found:
            found.add(name)
            open_ends += [way for way in ways(text).values() if not way.startswith(VALUE)]
    return found


@pytest.mark.parametrize("settings", [TrailSettings(steps=(1, 8)), LARGE])
def test_only_the_right_way_in_each_file_leads_to_the_answer(settings):
    for trail in drawn(settings):
        on_trail, wrong, text = {trail.start}, [], trail.files[trail.start]
        while True:
            here = ways(text)
            assert len(here) == settings.branching
            right = here.pop(trail.label)
            wrong += [way for way in here.values() if not way.startswith(VALUE)]
            assert f"{VALUE} {trail.answer}" not in here.values()
            if right.startswith(VALUE):
                break
            name = resolve(right)
            text = text_of(trail, name)
            assert name not in on_trail
            on_trail.add(name)
        assert len(on_trail) == len(trail.kinds) + (trail.kinds[-1] != "compute")
        assert not on_trail & {name for way in wrong for name in reach(trail, way)}


def test_wrong_ways_lead_to_nothing_to_decoys_and_to_wrong_values():
    nothing = at_once = decoys = values = 0
    for trail in drawn(TrailSettings(steps=3, distractors=6), 400):
        wrong = ways(trail.files[trail.start])
        del wrong[trail.label]
        for way in wrong.values():
            at_once += way.startswith(VALUE)
            found = set() if way.startswith(VALUE) else reach(trail, way)
            nothing += not way.startswith(VALUE) and not found
            ends = [way for name in found if (way := ways(text_of(trail, name))[trail.label]).startswith(VALUE)]
            decoys, values = decoys + bool(found), values + bool(ends)
            assert f"{VALUE} {trail.answer}" not in ends
    assert min(nothing, values) >= 80
    assert at_once >= 30
    assert decoys > values


def test_the_largest_settings_still_find_names_and_numbers_enough():
    for kinds in (("archive",), ("compute",), ("pointer",), ("pointer", "archive", "compute")):
        for trail in drawn(LARGE.model_copy(update={"kinds": kinds}), 50):
            members = [packed.member for packed in trail.archives.values()]
            names = [trail.output, *trail.contents, *members]
            assert len(set(names)) == len(names)
