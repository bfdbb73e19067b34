"""Trajectories as JSON objects, for journals and for other processes; knows no file."""

from collections.abc import Mapping
from typing import Any, cast

from tumbler.contracts.values import JSONObject, ToolCall
from tumbler.errors import TrajectoryError
from tumbler.trajectory.record import AnchorRef, Chunk, Component, Header, Segment, Trajectory

__all__ = ["trajectory_from_json", "trajectory_to_json"]


def trajectory_to_json(trajectory: Trajectory) -> JSONObject:
    """Return the trajectory as a JSON object that shares its values; `trajectory_from_json` gives an equal one back."""
    header = trajectory.header
    # `asdict` would copy every value, which takes longer than to write them.
    return {
        **vars(trajectory),
        "header": {
            **vars(header),
            "env": dict(vars(header.env)),
            "agent": dict(vars(header.agent)),
            "context": [dict(vars(each)) for each in header.context],
            "anchor": None if header.anchor is None else dict(vars(header.anchor)),
        },
        "segments": [dict(vars(each)) for each in trajectory.segments],
        "chunks": [_chunk_to_json(each) for each in trajectory.chunks],
    }


def _chunk_to_json(chunk: Chunk) -> JSONObject:
    return {**vars(chunk), "tool_calls": [dict(vars(each)) for each in chunk.tool_calls]}


def trajectory_from_json(value: JSONObject) -> Trajectory:
    """Return the trajectory that `trajectory_to_json` wrote; raise `TrajectoryError` on anything else."""
    fields = cast("dict[str, Any]", dict(value))
    try:
        return Trajectory(
            **{
                **fields,
                "header": _header(fields["header"]),
                "segments": tuple(_segment(each) for each in fields["segments"]),
                "chunks": tuple(_chunk(each) for each in fields["chunks"]),
            }
        )
    except (KeyError, TypeError) as error:
        raise TrajectoryError(f"not a trajectory record: {error}") from error


def _header(value: Mapping[str, Any]) -> Header:
    anchor = value["anchor"]
    return Header(
        **{
            **value,
            "env": Component(**value["env"]),
            "agent": Component(**value["agent"]),
            "context": tuple(Component(**each) for each in value["context"]),
            "anchor": None if anchor is None else AnchorRef(**anchor),
        }
    )


def _segment(value: Mapping[str, Any]) -> Segment:
    return Segment(**{**value, "token_ids": tuple(value["token_ids"])})


def _chunk(value: Mapping[str, Any]) -> Chunk:
    return Chunk(
        **{
            **value,
            "behaviour_logprobs": tuple(value["behaviour_logprobs"]),
            "tool_calls": tuple(ToolCall(**each) for each in value["tool_calls"]),
        }
    )
