"""What Tumbler writes into the `extra` fields of its own ATIF documents, so that nothing of a record is lost.

Everything is built from the record's own fields: a field that the record gains later is written and read without a
change here. Knows no document as a whole.
"""

from typing import cast

from tumbler.contracts.values import JSON, JSONObject
from tumbler.errors import TrajectoryError
from tumbler.formats.atif_schema import Extra

__all__ = ["HELD_BY_STEPS", "MARK", "MARK_SCHEMA", "find_mark", "mark"]

MARK = "tumbler"
"""The key of our own entry in `extra`."""

MARK_SCHEMA = 1
"""The version of what lies under the key."""

HELD_BY_STEPS = frozenset({"text", "start", "end", "behaviour_logprobs", "tool_calls", "observation"})
"""Fields of a chunk that have a place of their own in an ATIF step; all others go into its `extra`."""


def mark(fields: JSONObject) -> Extra:
    """Return an `extra` that holds the fields."""
    return cast("Extra", {MARK: dict(fields)})


def find_mark(extra: Extra | None, place: str) -> dict[str, JSON] | None:
    """Return our own fields, None where there are none; raise `TrajectoryError` if they make no sense."""
    found = (extra or {}).get(MARK)
    if found is None:
        return None
    if not isinstance(found, dict):
        raise TrajectoryError(f"{place}: extra.{MARK} is no object; the document was changed after Tumbler wrote it")
    return dict(cast("dict[str, JSON]", found))
