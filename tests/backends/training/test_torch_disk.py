"""Checkpoints of the torch training backend where the disk is full, or a crash comes between two renames."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch

from tumbler.errors import RunError
from tumbler_backends.training.folders import read_state


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Let no file grow beyond `size` bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("file", ["model/model.safetensors", "state.pt"])
async def test_a_full_disk_is_told_and_the_older_checkpoint_stays_whole(file, start, mixed_batch, tmp_path):
    backend = await start("sft", dtype="float32")
    await backend.fit_sft(mixed_batch)
    await backend.save(tmp_path / "one")
    before = {each: each.read_bytes() for each in (tmp_path / "one").rglob("*") if each.is_file()}
    sizes = [
        len(before[tmp_path / "one" / each]) for each in ("model/config.json", "model/model.safetensors", "state.pt")
    ]
    assert sizes == sorted(sizes), "so that it is the file in question that does not fit"
    await backend.fit_sft(mixed_batch)
    with (
        largest_file(len(before[tmp_path / "one" / file]) - 1000),
        pytest.raises(RunError, match=r"older one in its place is whole: (.|\n)*MiB are free there; make room"),
    ):
        await backend.save(tmp_path / "one")
    assert {each: each.read_bytes() for each in (tmp_path / "one").rglob("*") if each.is_file()} == before
    assert [each.name for each in tmp_path.iterdir()] == ["one"]
    await backend.save(tmp_path / "one")
    assert read_state(tmp_path / "one", device=torch.device("cpu"))["version"] == 2


async def test_a_folder_that_cannot_be_made_is_told(start, tmp_path):
    backend = await start("sft")
    (tmp_path / ".one.partial").write_text("a file where a folder has to be")
    with pytest.raises(RunError, match="could not be written, and there is none"):
        await backend.save(tmp_path / "one")


async def test_a_crash_between_two_renames_leaves_the_older_checkpoint_to_be_found(start, tmp_path):
    backend = await start("sft")
    await backend.save(tmp_path / "one")
    before = (tmp_path / "one" / "state.pt").read_bytes()
    (tmp_path / "one").rename(tmp_path / ".one.replaced")
    read_state(tmp_path / "one", device=torch.device("cpu"))
    assert (tmp_path / "one" / "state.pt").read_bytes() == before
    (tmp_path / "one").rename(tmp_path / ".one.replaced")
    await backend.save(tmp_path / "one")
    assert [each.name for each in tmp_path.iterdir()] == ["one"]
