"""Recorded replies, found by the prompt that they answered."""

import asyncio
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from tumbler.contracts.inference import GenerateRequest, TextTokenizer
from tumbler.errors import InferenceError
from tumbler.seeding import derive_seed
from tumbler.trajectory import Trajectory, trajectory_from_json
from tumbler_backends.inference.replay.settings import ReplaySettings
from tumbler_backends.inference.stand_in import Answer, StandIn

__all__ = ["ReplayInference"]


class _Records:
    """All replies that the recorded policy sampled.

    A prompt that was answered more than once, such as the first one of a group's rollouts, gets the reply that the same
    episode got: seeds of requests follow from those of episodes. In a run with other seeds the request's seed chooses.
    """

    def __init__(self, settings: ReplaySettings) -> None:
        self._settings = settings
        self._by_prompt: dict[tuple[int, ...], dict[int, Answer]] = {}
        self._tokenizers: set[str] = set()

    def read(self) -> None:
        """Read all files; raises `InferenceError` where one is missing or holds something else."""
        for path in self._files():
            with path.open(encoding="utf-8") as file:
                for number, line in enumerate(file, 1):
                    if line.endswith("\n"):  # a crash may have left a part of a line
                        self._add(_trajectory(line, path, number))

    def check(self, tokenizer: TextTokenizer) -> None:
        """Raise `InferenceError` if other tokens were recorded than the tokenizer's."""
        if others := self._tokenizers - {tokenizer.fingerprint}:
            raise InferenceError(
                f"the trajectories were recorded with the tokenizer {', '.join(sorted(others))}, and the run's model "
                f"has {tokenizer.fingerprint}; replay them with the model source that they were recorded with"
            )

    def answer(self, request: GenerateRequest, tokenizer: TextTokenizer) -> Answer:
        """Return what was said to the same prompt."""
        found = self._by_prompt.get(request.token_ids)
        if found is None:
            raise InferenceError(
                f"no recorded reply answers a prompt of {len(request.token_ids)} tokens that ends with "
                f"{tokenizer.decode(request.token_ids[-60:])!r}: the environment, the agent or the seed differs from "
                "the recorded run's"
            )
        answer = found.get(request.seed)
        return list(found.values())[request.seed % len(found)] if answer is None else answer

    def _files(self) -> Iterator[Path]:
        for path in self._settings.trajectories:
            files = sorted(path.glob("stages/*/trajectories.jsonl")) if path.is_dir() else [path]
            if not files or not files[0].is_file():
                raise InferenceError(
                    f"{path} is neither a file of trajectories nor a run folder with some; mend `trajectories` of the "
                    "inference backend"
                )
            yield from files

    def _add(self, trajectory: Trajectory) -> None:
        self._tokenizers.add(trajectory.header.tokenizer)
        policy = derive_seed(trajectory.header.seed, "policy")
        sampled = [chunk for chunk in trajectory.chunks if chunk.sampled and not chunk.replayed]
        for call, chunk in enumerate(sampled):
            ids = _segment(trajectory, chunk.segment)
            answer = Answer(
                token_ids=ids[chunk.start : chunk.end],
                logprobs=chunk.behaviour_logprobs,
                finish_reason=chunk.finish_reason,
            )
            self._by_prompt.setdefault(tuple(ids[: chunk.start]), {})[derive_seed(policy, call)] = answer


class ReplayInference(StandIn):
    """Says again what was recorded, with the log-probabilities of then."""

    def __init__(self, settings: ReplaySettings) -> None:
        """Take the settings; files are read by `start`."""
        self._records = _Records(settings)
        super().__init__(self._records)

    async def start(self, model: Path) -> None:
        """Read the trajectories and the model's tokenizer."""
        await super().start(model)
        await asyncio.to_thread(self._records.read)
        self._records.check(self.tokenizer)


def _segment(trajectory: Trajectory, number: int) -> Sequence[int]:
    return next(segment.token_ids for segment in trajectory.segments if segment.id == number)


def _trajectory(line: str, path: Path, number: int) -> Trajectory:
    try:
        return trajectory_from_json(json.loads(line))
    except (ValueError, KeyError, TypeError) as error:
        raise InferenceError(f"{path}:{number} holds no trajectory: {error}") from error
