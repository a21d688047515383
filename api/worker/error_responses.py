"""How a run's refusal of a task call is answered: status, text and fields per reason (worker-protocol 4.7, 4.9, 7.2, 7.3)."""

from __future__ import annotations

from typing import Any

from actors.run.replies import Refused
from api.http.response import Response

_NOT_FOUND = frozenset({"task_not_found", "attempt_not_found", "history_not_available"})

# Refusals of a completion's content or the run's state: the success body with `recorded: false`.
_UNRECORDED = frozenset({"invalid_commands", "run_already_closed", "run_timed_out", "run_not_found"})

_IGNORED = frozenset({"run_cancelled", "run_terminated"})

_ACTIVITY_OWNERSHIP = frozenset({"task_mismatch", "lease_owner_mismatch"})

_TEXTS = {
    "task_not_found": "No such task.",
    "attempt_not_found": "No such activity attempt.",
    "task_mismatch": "The attempt belongs to another task.",
    "history_not_available": "The history of this task is not available.",
    "run_closed": "Workflow run is already closed.",
    "task_not_leased": "The task is not leased.",
    "lease_expired": "The lease of the task has expired.",
    "lease_owner_mismatch": "The task is leased by another worker.",
    "workflow_task_attempt_mismatch": "The task is leased with another attempt.",
    "structural_limit_exceeded": "A structural limit would be exceeded.",
    "run_cancelled": "Activity outcome ignored because the workflow run is already closed.",
    "run_terminated": "Activity outcome ignored because the workflow run is already closed.",
}


def _text(refused: Refused) -> str:
    return str(refused.detail.get("error") or _TEXTS.get(refused.reason) or f"Refused: {refused.reason}.")


def workflow_task_refused(refused: Refused, task_id: str, attempt: int, outcome: str | None = None) -> Response:
    """The answer to a refused workflow-task call. `outcome`: what success would report, or None."""
    reason, detail = refused.reason, refused.detail
    body: dict[str, Any] = {"task_id": task_id, "workflow_task_attempt": attempt}
    if reason == "structural_limit_exceeded":
        return Response(422, {**body, "outcome": "rejected", **detail, "error": _text(refused), "reason": reason})
    if reason in _UNRECORDED and outcome is not None:
        body |= {"outcome": outcome, "recorded": False}
        if outcome == "completed":
            body |= {"run_id": None, "run_status": None, "created_task_ids": []}
        return Response(409, {**body, **detail, "reason": reason})
    status = 404 if reason in _NOT_FOUND else 409
    return Response(status, {**body, **detail, "error": _text(refused), "reason": reason})


def activity_refused(refused: Refused, task_id: str, attempt_id: str, outcome: str | None = None) -> Response:
    """The answer to a refused activity call. `outcome` is what the call would have reported: `completed`, `failed` or None."""
    reason, detail = refused.reason, refused.detail
    body: dict[str, Any] = {"task_id": task_id, "activity_attempt_id": attempt_id}
    if reason in _NOT_FOUND or reason in _ACTIVITY_OWNERSHIP or outcome is None:
        status = 404 if reason in _NOT_FOUND else 409
        return Response(status, {**body, **detail, "error": _text(refused), "reason": reason})
    if reason in _IGNORED:
        body |= {"outcome": "ignored", "recorded": False, "reason": reason, "next_task_id": None, "error": _text(refused)}
        return Response(409, {**detail, **body})
    return Response(409, {**body, "outcome": outcome, "recorded": False, "reason": reason, "next_task_id": None, **detail})
