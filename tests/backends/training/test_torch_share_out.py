"""How the torch training backend shares a batch out to its processes, and what it refuses."""

from dataclasses import replace

import pytest
from pydantic import ValidationError

from tumbler_backends.training.torch.batching import computed_tokens, share_out
from tumbler_backends.training.torch.layout import Example
from tumbler_backends.training.torch.settings import TorchTrainingSettings


@pytest.fixture
def groups(trajectory) -> list[Example]:
    """Return four groups of four trajectories, mixed, of which each group begins alike."""
    chunks = [{"segment": 0, "start": 60, "end": 64}]
    starts = [trajectory(str(group), segments=(64,), chunks=chunks, seed=group) for group in range(4)]
    made = []
    for member in range(4):
        for start in starts:
            (segment,) = start.segments
            own = (*segment.token_ids[:60], *(3 + (member + each) % 20 for each in range(4)))
            record = replace(start, segments=(replace(segment, token_ids=own),))
            made.append(Example(trajectory=record, trained=(0,)))
    return made


@pytest.mark.parametrize("share", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 3, 5, 20])
def test_every_example_is_in_one_part_and_the_work_is_about_equal(share, parts, groups):
    shared = share_out(groups, parts=parts, share=share)
    assert len(shared) == parts
    assert sorted(id(each) for part in shared for each in part) == sorted(map(id, groups))
    work = [computed_tokens(part, share=share) if part else 0 for part in shared]
    # A part may hold one trajectory more than another, and begin one prefix more.
    assert max(work) <= sum(work) / parts + 2 * 64


def test_groups_that_begin_alike_stay_together_where_that_saves_work(groups):
    for part in share_out(groups, parts=2, share=True):
        begun = [each.trajectory.segments[0].token_ids[:60] for each in part]
        assert all(begun.count(each) == 4 for each in begun)


def test_no_examples_make_empty_parts():
    for share in (False, True):
        assert share_out([], parts=3, share=share) == [[], [], []]


def test_deepspeed_is_refused_with_the_reason():
    with pytest.raises(ValidationError, match=r"'deepspeed' is not offered: .* 'fsdp' splits the same"):
        TorchTrainingSettings(strategy="deepspeed")
