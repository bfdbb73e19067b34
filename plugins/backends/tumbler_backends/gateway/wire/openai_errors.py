"""OpenAI's error bodies, the same for both of its APIs."""

from tumbler.contracts.values import JSONObject

__all__ = ["openai_error"]

_FAULT_OF_SERVER = 500


def openai_error(status: int, kind: str, message: str, parameter: str | None = None) -> JSONObject:
    """Return the body. A kind that ends in `_error` is OpenAI's `type`; any other is its `code`."""
    general = kind.endswith("_error")
    type_ = kind if general else "server_error" if status >= _FAULT_OF_SERVER else "invalid_request_error"
    return {"error": {"message": message, "type": type_, "param": parameter, "code": None if general else kind}}
