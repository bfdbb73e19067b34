"""How a command's outcome reads as an observation; knows no shell and no sandbox."""

import re

from tumbler.contracts.sandbox import ExecResult

__all__ = ["NO_OUTPUT", "ended", "plain", "render"]

NO_OUTPUT = "(no output)"

_SHELL_PREFIX = re.compile(r"^(?:(?:/\S*/)?(?:ba)?sh|environment): (?:eval: )?line \d+: ", re.MULTILINE)
"""How bash names the place of an error, "environment" in a function; the line number depends on what ran before."""

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-Z\\-_])")
"""What colours and moves the cursor."""

_CONTROLS = re.compile(r"[^\n\t\x20-\x7e\xa0-\U0010ffff]+")


def render(result: ExecResult, *, limit: int, timeout: float) -> str:
    """Return the output in at most `limit` characters, and the exit code unless it is 0."""
    parts = [_output(result, limit)]
    if result.timed_out:
        parts.append(f"(timed out after {timeout:g} s; the shell was started anew in the same folder)")
    elif result.oom:
        parts.append(f"exit {result.exit_code} (out of memory)")
    elif result.exit_code != 0:
        parts.append(f"exit {result.exit_code}")
    return "\n".join(part for part in parts if part) or NO_OUTPUT


def ended(partial: ExecResult | None, status: int | None, *, limit: int) -> str:
    """Return what the agent reads when its shell has exited."""
    said = _output(partial, limit) if partial else ""
    note = f"(the shell exited{'' if status is None else f' with {status}'}; the next command gets a new one)"
    return f"{said}\n{note}" if said else note


def plain(data: bytes) -> str:
    """Return text without escape sequences; each run of what is no text is a question mark."""
    return _CONTROLS.sub("?", _ESCAPES.sub("", data.decode("utf-8", errors="replace").replace("\r\n", "\n")))


def _output(result: ExecResult, limit: int) -> str:
    text = (plain(result.stdout) + _SHELL_PREFIX.sub("bash: ", plain(result.stderr))).rstrip()
    dropped = "; more was thrown away" if result.truncated else ""
    if len(text) <= limit:
        return text + (f"\n[output cut{dropped}]" if dropped else "")
    head, tail = text[: limit // 2], text[len(text) - limit // 2 :]
    return f"{head}\n[{len(text) - len(head) - len(tail)} characters left out{dropped}]\n{tail}"
