"""What an inference backend has done since it started, as plain numbers."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

__all__ = ["Counters"]


@dataclass
class Counters:
    """Running totals."""

    requests: int = 0
    tokens_sampled: int = 0
    tokens_computed: int = 0
    """Prompt and reply tokens that went through the model."""
    tokens_cached: int = 0
    """Prompt tokens that did not have to."""
    seconds_busy: float = 0.0
    """In which there was something to do."""

    def as_mapping(self) -> Mapping[str, float]:
        """Return the totals by name."""
        return {name: float(value) for name, value in asdict(self).items()}
