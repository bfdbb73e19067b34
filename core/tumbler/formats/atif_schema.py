"""The shape of an ATIF document, versions 1.0 to 1.8, as read and written here; knows no trajectory record.

ATIF is the Agent Trajectory Interchange Format of the Harbor framework (its RFC 0001). Fields that a document may
not have are refused, as Harbor's own validator refuses them.
"""

from typing import Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from tumbler.contracts.values import JSONObject
from tumbler.errors import TrajectoryError

__all__ = [
    "ATIF_VERSION",
    "AtifAgent",
    "AtifCall",
    "AtifDocument",
    "AtifFinalMetrics",
    "AtifMetrics",
    "AtifObservation",
    "AtifPart",
    "AtifReference",
    "AtifResult",
    "AtifStep",
    "Extra",
    "read_document",
    "write_document",
]

ATIF_VERSION = "ATIF-v1.8"
_KNOWN_VERSIONS = tuple(f"ATIF-v1.{minor}" for minor in range(9))
_MOST_PROBLEMS = 10

Extra: TypeAlias = dict[str, JsonValue]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class AtifPart(_Part):
    """One part of a message that is not plain text alone."""

    type: Literal["text", "image", "audio"]
    text: str | None = None
    source: Extra | None = None


class AtifReference(_Part):
    """Names a sub-agent's trajectory: embedded in the root document, or in a file of its own."""

    trajectory_id: str | None = None
    session_id: str | None = None
    trajectory_path: str | None = None
    extra: Extra | None = None


class AtifResult(_Part):
    """What one call, or something else, brought."""

    source_call_id: str | None = None
    content: str | list[AtifPart] | None = None
    subagent_trajectory_ref: list[AtifReference] | None = None
    extra: Extra | None = None


class AtifObservation(_Part):
    """What the environment answered."""

    results: list[AtifResult]


class AtifCall(_Part):
    """One call of a tool."""

    tool_call_id: str
    function_name: str
    arguments: Extra
    extra: Extra | None = None


class AtifMetrics(_Part):
    """Figures, token ids and log-probabilities of one model call."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    cached_tokens: int | None = None
    cost_usd: float | None = None
    prompt_token_ids: list[int] | None = None
    """The whole prompt, history included."""
    completion_token_ids: list[int] | None = None
    logprobs: list[float] | None = None
    extra: Extra | None = None


class AtifStep(_Part):
    """One message, model call or event."""

    step_id: int
    timestamp: str | None = None
    source: Literal["system", "user", "agent"]
    model_name: str | None = None
    reasoning_effort: str | float | None = None
    message: str | list[AtifPart]
    reasoning_content: str | None = None
    tool_calls: list[AtifCall] | None = None
    observation: AtifObservation | None = None
    metrics: AtifMetrics | None = None
    is_copied_context: bool | None = None
    llm_call_count: int | None = None
    """0 is an agent's step without a model call; None is not known."""
    extra: Extra | None = None


class AtifAgent(_Part):
    """Which agent acted."""

    name: str
    version: str
    model_name: str | None = None
    tool_definitions: list[Extra] | None = None
    extra: Extra | None = None


class AtifFinalMetrics(_Part):
    """Sums over the steps of one document."""

    total_prompt_tokens: int | None = None
    total_completion_tokens: int | None = None
    total_cached_tokens: int | None = None
    total_cost_usd: float | None = None
    total_steps: int | None = None
    extra: Extra | None = None


class AtifDocument(_Part):
    """A whole document."""

    schema_version: str = ATIF_VERSION
    session_id: str | None = None
    trajectory_id: str | None = None
    agent: AtifAgent
    steps: list[AtifStep] = Field(min_length=1)
    notes: str | None = None
    final_metrics: AtifFinalMetrics | None = None
    continued_trajectory_ref: str | None = None
    extra: Extra | None = None
    subagent_trajectories: "list[AtifDocument] | None" = None

    @model_validator(mode="after")
    def _check_order(self) -> "AtifDocument":
        for place, step in enumerate(self.steps, 1):
            if step.step_id != place:
                raise ValueError(f"the step in place {place} has step_id {step.step_id}; they count from 1 in order")
        return self


def read_document(value: JSONObject) -> AtifDocument:
    """Return the document; raise `TrajectoryError` that lists up to ten places where it is none."""
    version = value.get("schema_version", ATIF_VERSION)
    if version not in _KNOWN_VERSIONS:
        raise TrajectoryError(
            f"not an ATIF document that can be read: schema_version is {version!r}, "
            f"and {_KNOWN_VERSIONS[0]} to {_KNOWN_VERSIONS[-1]} are known"
        )
    try:
        return AtifDocument.model_validate(value)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        lines = [
            f"  - {'.'.join(str(part) for part in each['loc']) or 'document'}: {each['msg']}"
            for each in problems[:_MOST_PROBLEMS]
        ]
        listing = "\n".join(lines)
        raise TrajectoryError(f"not an ATIF document; {len(problems)} problem(s):\n{listing}") from error


def write_document(document: AtifDocument) -> JSONObject:
    """Return the document as a JSON object, without the fields that it leaves open."""
    shown: JSONObject = document.model_dump(mode="json", exclude_none=True)
    return shown
