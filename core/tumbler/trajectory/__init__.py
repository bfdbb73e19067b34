"""The trainable record of an episode, its rules, and its form on disk."""

from tumbler.trajectory.record import Anchor, AnchorRef, Chunk, Component, Header, Segment, Status, Trajectory
from tumbler.trajectory.serialise import trajectory_from_json, trajectory_to_json
from tumbler.trajectory.verify import verify_trajectory

__all__ = [
    "Anchor",
    "AnchorRef",
    "Chunk",
    "Component",
    "Header",
    "Segment",
    "Status",
    "Trajectory",
    "trajectory_from_json",
    "trajectory_to_json",
    "verify_trajectory",
]
