"""GET .../debug: a diagnostic snapshot of a run, from its stored state, the end of its history, ready tasks and workers.

Contract: control-plane 5.6. In nested objects keys whose value is null or an empty list are left out.
"""

from __future__ import annotations

from typing import Any

from actors.run import state as run_state
from actors.run.state import RunState
from actors.run.views.status_buckets import is_terminal, status_bucket
from actors.run.views.waiting import waiting
from api.control.debug import history
from api.control.debug import tasks as debug_tasks
from api.control.debug.queue import active_count, task_queue
from api.control.debug.tasks import Compatibility, Health, pruned
from api.control.worker_fleet import active_workers, worker_fleet
from api.control.workflows.lookup import current_run, named_run
from api.http.input.fields import Fields
from api.http.request import Request
from api.http.response import Response
from api.http.times import ts, ts_or_none
from store.runs import StoredRun
from store.workers import Worker


async def debug(request: Request) -> Response:
    """GET /api/workflows/{workflow_id}/debug: its current run."""
    with_payload = _with_payload(request)
    run, _ = await current_run(request)
    return await _snapshot(request, run, with_payload)


async def debug_run(request: Request) -> Response:
    """GET /api/workflows/{workflow_id}/runs/{run_id}/debug."""
    with_payload = _with_payload(request)
    run, _ = await named_run(request)
    return await _snapshot(request, run, with_payload)


def _with_payload(request: Request) -> bool:
    fields = Fields(dict(request.query()))
    wanted = fields.boolean("include_last_event_payload")
    fields.check()
    return wanted


async def _snapshot(request: Request, run: StoredRun, with_payload: bool) -> Response:
    services = request.services
    settings = services.settings
    now = services.clock.now()
    state = run_state.decode(run.row.state)
    lines = await history.tail(services.db, run.run_id, run.row.last_sequence)
    fleet = await services.workers.listing(request.namespace)
    on_queue = [worker for worker in fleet if worker.task_queue == state.task_queue]
    compatibility = Compatibility(
        state.compatibility,
        _matched(state.compatibility, active_workers(on_queue, settings, now)),
        _matched(state.compatibility, active_workers(fleet, settings, now)),
    )
    wait = waiting(state, now)
    health = debug_tasks.health(state, wait, compatibility)
    tasks = debug_tasks.workflow_tasks(state, wait, compatibility, now)
    activities = debug_tasks.activities(state, now)
    queue = await task_queue(services, state, on_queue, now) if state.task_queue else None
    execution = {
        **_facts(run, state, health),
        "wait_kind": wait.kind,
        "last_event": history.last_event(lines, run.row.last_sequence, with_payload),
        "next_scheduled_event": debug_tasks.next_scheduled(state, wait),
    }
    body: dict[str, Any] = {
        "generated_at": ts(now),
        "workflow_id": state.workflow_id,
        "run_id": run.run_id,
        "namespace": state.namespace,
        "diagnostic_status": _diagnosis(state, health, bool(tasks or activities), wait.kind, queue),
        "execution": pruned(execution),
        "pending_workflow_tasks": tasks,
        "pending_activities": activities,
        "task_queue": queue,
        "recent_failures": [pruned(failure) for failure in history.recent_failures(lines, run.run_id)],
        "compatibility": pruned(
            {
                "run": {
                    "compatibility": state.compatibility,
                    "summary_compatibility": state.compatibility,
                    "task_queue": state.task_queue,
                },
                "task_queue_pollers": [] if queue is None else queue["pollers"],
                "namespace_worker_fleet": worker_fleet(request.namespace, fleet, settings, now),
            }
        ),
        "findings": _findings(health, tasks, activities, queue),
    }
    return Response(200, body)


def _matched(marker: str | None, live: list[Worker]) -> bool:
    return not marker or any(worker.build_id == marker for worker in live)


def _facts(run: StoredRun, state: RunState, health: Health) -> dict[str, Any]:
    identity, row = run.identity, run.row
    return {
        "status": row.status,
        "status_bucket": status_bucket(row.status),
        "is_terminal": is_terminal(row.status),
        "workflow_type": identity.workflow_type,
        "task_queue": identity.task_queue,
        "compatibility": identity.compatibility,
        "run_number": identity.run_number,
        "started_at": ts(identity.started_at),
        "closed_at": ts_or_none(row.closed_at),
        "last_progress_at": ts_or_none(state.last_progress_at or None),
        "wait_reason": health.wait_reason,
        "liveness_state": health.liveness,
        "liveness_reason": health.reason,
        "repair_attention": health.repair_attention,
        "task_problem": health.task_problem,
        "task_problem_badge": health.badge,
    }


def _diagnosis(state: RunState, health: Health, pending: bool, wait_kind: str | None, queue: dict[str, Any] | None) -> str:
    """The first that applies, in the contract's order."""
    if not state.is_open:
        return "terminal"
    if health.task_problem or health.repair_attention:
        return "needs_attention"
    if pending:
        return "pending_work"
    if wait_kind is not None:
        return "waiting"
    return "queue_backlog" if queue is not None and queue["stats"]["approximate_backlog_count"] else "running"


def _findings(
    health: Health, tasks: list[dict[str, Any]], activities: list[dict[str, Any]], queue: dict[str, Any] | None
) -> list[dict[str, str]]:
    """What an operator should look at, in the contract's order."""
    found: list[tuple[str, str, str]] = []
    if (tasks or activities) and not active_count([] if queue is None else queue["pollers"]):
        found.append(("warning", "no_active_pollers", "No active poller serves this queue."))
    if queue is not None and queue["repair"]["expired_leases"]:
        found.append(("warning", "expired_leases", "The queue has leases that ran out."))
    if health.task_problem:
        found.append(("warning", "task_problem", f"A workflow task of the run has a problem: {health.badge}."))
    if health.repair_attention:
        found.append(("warning", "repair_attention", "The run waits for a worker of its build."))
    if any(task["replay_blocked"] for task in tasks):
        found.append(("error", "workflow_replay_blocked", "A worker failed the run's workflow task."))
    return [{"severity": severity, "code": code, "message": message} for severity, code, message in found]
