"""Failures of workflow code as events carry them (contract engine-semantics 10.1)."""

from __future__ import annotations

from typing import Any

_TIMEOUT_TEXTS = ("timed out", "timeout exceeded", "execution deadline", "run deadline")
_OF_THE_CODE = frozenset({"class", "file", "line", "trace", "properties"})


def failure_category(message: str) -> str:
    """The category of a workflow or update failure, told by its message."""
    text = message.lower()
    if any(part in text for part in _TIMEOUT_TEXTS):
        return "timeout"
    return "structural_limit" if message.startswith("Structural limit exceeded:") else "application"


def workflow_exception(
    message: str, type_: str | None, class_: str | None, non_retryable: bool, given: dict[str, Any] | None
) -> dict[str, Any]:
    """The `exception` object of a failure raised by workflow code; always has `class`."""
    exception: dict[str, Any] = {
        "type": type_,
        "class": class_ or type_ or "RuntimeException",
        "message": message,
        "code": 0,
        "file": "",
        "line": 0,
        "trace": [],
        "properties": [],
        "non_retryable": non_retryable,
        **(given or {}),
    }
    return {key: value for key, value in exception.items() if value is not None}


def neutral_exception(exception: dict[str, Any] | None) -> dict[str, Any] | None:
    """The `exception` object as another run may see it: without where in the code it was raised."""
    return None if exception is None else {key: value for key, value in exception.items() if key not in _OF_THE_CODE}
