"""A policy outside of a run, recorded: each call becomes a chunk of a trajectory that nobody judges."""

from tumbler import __version__
from tumbler.contracts.environment import StepResult
from tumbler.contracts.inference import InferenceBackend, Sampling
from tumbler.contracts.values import ToolCall
from tumbler.errors import ContextOverflowError
from tumbler.rollout.episode import PhaseClock, RecordedModel
from tumbler.rollout.recorder import Recorder
from tumbler.rollout.sources import PolicySource
from tumbler.trajectory import Component, Header, Trajectory

__all__ = ["RecordedPolicy"]


class RecordedPolicy(RecordedModel):
    """The model of one session, and its record."""

    def __init__(self, name: str, inference: InferenceBackend, sampling: Sampling, seed: int) -> None:
        """Begin a record named `name`; the backend is started."""
        self._name = name
        self._inference = inference
        self._sampling = sampling
        self._seed = seed
        self._record = Recorder(inference.tokenizer)
        self._seconds = PhaseClock()
        source = PolicySource(inference, sampling, seed)
        super().__init__(source, self._record, self._seconds, episode=name, room=self._left)

    def note(self, call: ToolCall, result: StepResult, *, chunk: int) -> None:
        """Record a call that the client carried out, and what it brought."""
        self._record.note_call(chunk, call, result)

    def reject(self, *, chunk: int, reason: str) -> None:
        """Record that the chunk made a call that cannot be carried out."""
        self._record.note_rejection(chunk, reason)

    def trajectory(self) -> Trajectory:
        """Return what was recorded."""
        served = Component(id="gateway", version=__version__, settings_hash="")
        return Trajectory(
            header=Header(
                id=self._name,
                task="",
                env=served,
                agent=served,
                seed=self._seed,
                tokenizer=self._inference.tokenizer.fingerprint,
                temperature=self._sampling.temperature,
            ),
            segments=self._record.segments,
            chunks=self._record.chunks,
            status="dropped",
            status_reason="the session was served without a task, so that nothing judged it",
            seconds=dict(self._seconds.seconds),
        )

    async def release(self) -> None:
        """Let the backend forget the conversations."""
        for session in self._record.sessions:
            await self._inference.release(f"{self._name}/{session}")

    def _left(self, length: int) -> int:
        """Return how many tokens the reply may have: as many as the prompt leaves in the context."""
        longest = self._inference.tokenizer.context_length
        if length >= longest:
            raise ContextOverflowError(f"the prompt has {length} tokens, and the model takes {longest} with the reply")
        return longest - length
