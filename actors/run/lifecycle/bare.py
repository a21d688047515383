"""A run of which only the bare facts are left: retention took its history (contract operations 6.3)."""

from __future__ import annotations

from actors.run.state import RunState

_GRACE_MILLISECONDS = 60_000  # ids are minted up to a little after the end


def bare_state(
    *,
    namespace: str,
    workflow_id: str,
    run_id: str,
    run_number: int,
    workflow_type: str,
    task_queue: str | None,
    business_key: str | None,
    compatibility: str | None,
    started_at: int,
    closed_at: int,
    status: str,
    closed_reason: str,
) -> RunState:
    """The state of a pruned run: closed, without a step, a task or an event. Times in microseconds.

    It counts as archived, so that nobody is told that something of it could still be kept.
    """
    return RunState(
        namespace=namespace,
        workflow_id=workflow_id,
        run_id=run_id,  # type: ignore[arg-type]  # ids and words as they were stored
        run_number=run_number,
        workflow_type=workflow_type,
        task_queue=task_queue or "default",
        business_key=business_key,
        compatibility=compatibility,
        started_at=started_at,
        status=status,  # type: ignore[arg-type]
        closed_reason=closed_reason,  # type: ignore[arg-type]
        closed_at=closed_at,
        superseded=closed_reason == "continued",
        last_progress_at=closed_at,
        recorded_at=closed_at,
        id_clock=closed_at // 1000 + _GRACE_MILLISECONDS,
        archived=True,
    )
