"""Errors on their way from one process to another: they arrive as what they were. Knows no transport."""

import pickle
import traceback

from tumbler import errors
from tumbler.errors import TumblerError

__all__ = ["packed_error", "unpacked_error"]


def packed_error(error: BaseException, where: str) -> bytes:
    """Return the error as bytes, with a note that says where it was raised.

    One that does not survive pickling becomes the nearest of Tumbler's classes above it, or a `RuntimeError`.
    """
    story = "".join(traceback.format_exception(error)).rstrip()
    portable = error if _survives(error) else _nearest(error)
    portable.add_note(f"raised in {where}:\n{story}")
    return pickle.dumps(portable)


def unpacked_error(packed: bytes) -> BaseException:
    """Return the error; where its class is not known in this process, a `RuntimeError` that says so."""
    try:
        error = pickle.loads(packed)
    except Exception as problem:  # noqa: BLE001  # the constructor of a third party's error runs here
        return RuntimeError(f"another process raised an error that cannot be read here: {problem}")
    return error if isinstance(error, BaseException) else RuntimeError(f"another process raised {error!r}")


def _survives(error: BaseException) -> bool:
    try:
        return type(pickle.loads(pickle.dumps(error))) is type(error)
    except Exception:  # noqa: BLE001  # the constructor of a third party's error runs here
        return False


def _nearest(error: BaseException) -> BaseException:
    message = f"{type(error).__name__}: {error}"
    for each in type(error).__mro__:
        if issubclass(each, TumblerError) and each.__name__ in errors.__all__ and each.__module__ == errors.__name__:
            return each(message)
    return RuntimeError(message)
