"""Answer measuring requests on standard input with seconds on standard output; knows no contender.

A request is a JSON line `{"measure": NAME, "count": N}`, an answer `{"seconds": S}` or `{"error": TEXT}`. This
file runs in the contender's environment, so it imports nothing but the standard library.
"""

import json
import os
import sys

MEBIBYTE = 1 << 20


def serve(contender_class) -> None:  # noqa: ANN001  # any class whose measures are methods of a count
    """Make the contender, answer until the input ends, and close it."""
    # What the contender prints must not be taken for an answer.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    contender = contender_class()
    try:
        print(json.dumps({"ready": True}), file=answers)
        for line in sys.stdin:
            request = json.loads(line)
            try:
                answer = {"seconds": getattr(contender, request["measure"])(request["count"])}
            except Exception as error:  # noqa: BLE001  # the answer is the place to tell it
                answer = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps(answer), file=answers)
    finally:
        contender.close()
