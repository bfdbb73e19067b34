"""The two pluggy markers and the API's name; knows nothing of what is plugged in."""

import pluggy

__all__ = ["ENTRY_POINT_GROUP", "PROJECT", "hookimpl", "hookspec"]

PROJECT = "tumbler"
ENTRY_POINT_GROUP = "tumbler.v1"
"""The entry-point group that plugins declare; the name carries the API's major version."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)
