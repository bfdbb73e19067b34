"""Judge what a server says of new weights: whether it computes with what it was sent."""

import logging
from collections.abc import Mapping
from typing import Any

from tumbler.errors import InferenceError
from tumbler_backends.inference.tolerances import canary_problem
from tumbler_backends.inference.vllm.transfer import Weights

__all__ = ["require_served"]

_LOGGER = logging.getLogger(__name__)


def require_served(report: Mapping[str, Any], weights: Weights, *, dtype: str, tolerance: float | None) -> None:
    """Raise `InferenceError` if the server does not compute with the weights; see `canary_problem`."""
    problems: list[str] = list(report["problems"])
    if report["version"] != weights.version:
        problems.append(f"it serves version {report['version']}: is another run using the server?")
    if weights.canary is not None:
        problem = canary_problem(weights.canary, report["canary"], dtype=dtype, tolerance=tolerance)
        problems += [problem] if problem else []
    if problems:
        more = f"\nand {len(problems) - 10} more" if len(problems) > 10 else ""
        raise InferenceError(
            f"vLLM does not serve the weights of version {weights.version} that it was sent:\n"
            + "\n".join(problems[:10])
            + f"{more}\nGoing on would train on replies of another policy."
        )
    if report["unverified"]:
        names = ", ".join(report["unverified"][:5])
        _LOGGER.info("%d tensors of vLLM's could not be checked: %s", len(report["unverified"]), names)
