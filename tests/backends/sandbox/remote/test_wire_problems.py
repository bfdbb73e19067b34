"""Errors go over the wire and come back as the same class with the same fields."""

import base64
import errno

import pytest
from hypothesis import given
from hypothesis import strategies as some

from tumbler import errors
from tumbler.contracts.sandbox import ExecResult
from tumbler_backends.sandbox.wire.fields import Body, WireBytes, WireText
from tumbler_backends.sandbox.wire.problems import Problem, error_of, problem_of

PARTIAL = ExecResult(exit_code=1, stdout=b"\xff", stderr=b"", duration=1.5, timed_out=True)


@pytest.mark.parametrize(
    "error",
    [
        errors.SandboxError("x"),
        errors.SandboxUnavailable("x"),
        errors.SandboxNotFound("x"),
        errors.SandboxDied("x", "oom"),
        errors.SandboxDied("x"),
        errors.SandboxStartFailed("x", "image"),
        errors.SandboxNameTaken("x"),
        errors.CapabilityError("x"),
        errors.ExecTimeout("x", PARTIAL),
        errors.ExecFailed("x"),
        errors.OutputLimit("x"),
        errors.QuotaExceeded("x"),
        errors.PolicyDenied("x"),
        errors.SessionEnded("x", 0, PARTIAL),
        FileNotFoundError(errno.ENOENT, "No such file", "a/b"),
        OSError(errno.ENOTEMPTY, "Directory not empty", "a", None, "b"),
        OSError(errno.EFBIG, "beyond the limit", "a"),
        PermissionError("no"),
        BrokenPipeError(errno.EPIPE, "Broken pipe"),
        ProcessLookupError("no such process"),
        TimeoutError("late"),
        EOFError("over"),
        ValueError("odd"),
    ],
)
def test_an_error_comes_back_as_it_was(error):
    again = error_of(Problem.model_validate_json(problem_of(error).model_dump_json()))
    assert type(again) is type(error)
    assert str(again) == str(error)
    for field in ("cause", "phase", "exit_status", "partial", "errno", "filename", "filename2", "infra", "retryable"):
        assert getattr(again, field, None) == getattr(error, field, None), field


def test_a_class_that_the_other_side_does_not_know_becomes_the_nearest():
    class Narrower(errors.SandboxDied):
        pass

    assert problem_of(Narrower("x", "ttl")).error == "SandboxDied"
    assert type(error_of(Problem(error="OfTheFuture", message="x"))) is errors.SandboxError
    assert str(error_of(Problem(error="FileNotFoundError", message="gone", details={"cause": "x"}))) == "gone"


def test_names_that_are_not_utf8_do_not_break_a_problem():
    problem = problem_of(FileNotFoundError(errno.ENOENT, "No such file", "\udcff"))
    assert problem.model_dump_json()
    assert problem_of(ValueError("\ud800")).model_dump_json()


class Message(Body):
    text: WireText
    data: WireBytes


@given(some.binary(), some.binary())
def test_any_bytes_survive_as_text_and_as_data(name, data):
    text = name.decode(errors="surrogateescape")
    sent = Message.model_validate({"text": {"base64": base64.b64encode(name).decode()}, "data": data})
    again = Message.model_validate_json(sent.model_dump_json())
    assert (again.text, again.data) == (text, data)
