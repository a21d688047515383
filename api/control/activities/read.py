"""Reading standalone activities: describe and list, from the states of their host runs (control-plane 10)."""

from __future__ import annotations

from typing import Any

from actors.run import state as run_state
from actors.run.state import Activity, RunState, Standalone
from actors.run.views.status_buckets import BUCKETS, status_bucket
from actors.run.words import STANDALONE_TYPE
from api.control.workflows.lookup import current_run_of
from api.control.workflows.read import completed_event
from api.control.workflows.views import envelope_of
from api.http import page_tokens
from api.http.errors import ApiError
from api.http.input.fields import Fields
from api.http.request import Request
from api.http.response import Response
from api.http.searching import searched
from api.http.times import ts, ts_or_none
from store import runs
from store.runs import StoredRun
from store.visibility import listing
from store.visibility.conditions import All, Condition, InBucket, Text


async def describe(request: Request) -> Response:
    """GET /api/activities/{activity_id}: the newest execution under the id."""
    activity_id = request.path["activity_id"]
    found = await current_run_of(request, activity_id)
    state = None if found is None else run_state.decode(found[0].row.state)
    if found is None or state is None or state.standalone is None:
        raise ApiError(404, "activity_not_found", "Activity not found.", activity_id=activity_id)
    run, host = found[0], state.standalone
    closed = await completed_event(request, run) if run.row.closed_reason == "completed" else None
    attempts = _attempts(state, host)
    open_ = _open(state)
    current = attempts[-1] if attempts and (open_ is None or open_.status == "running") else None
    body = {
        **_item(run, state, host),
        "result": envelope_of(closed, "output"),
        "current_attempt_id": None if current is None else current["activity_attempt_id"],
        "current_attempt_status": None if current is None else current["status"],
        "attempts": attempts,
    }
    return Response(200, body)


async def list_(request: Request) -> Response:
    """GET /api/activities: executions, newest first."""
    fields = Fields(dict(request.query()))
    bucket = fields.choice("status", tuple(BUCKETS))
    size = fields.integer("page_size", low=1, high=200, default=50) or 50
    fields.check()
    condition: Condition = Text("workflow_type", "=", STANDALONE_TYPE)
    if bucket is not None:
        condition = All((condition, InBucket(bucket)))
    tokens = page_tokens.ListTokens(listing.Position, "activities", request.namespace, bucket)
    after = tokens.decode(fields.data.get("next_page_token"))
    db = request.services.searches
    found = await searched(listing.listing(db, request.namespace, condition, after=after, limit=size + 1))
    page = found[:size]
    stored = await searched(runs.load_all(db, [item.run_id for item in page]))
    items = []
    for listed in page:
        run = stored.get(listed.run_id)
        state = None if run is None else run_state.decode(run.row.state)
        if run is not None and state is not None and state.standalone is not None:
            items.append(_item(run, state, state.standalone))
    token = tokens.encode((page[-1].started_at, page[-1].run_id)) if len(found) > size else None
    return Response(200, {"activities": items, "activity_count": len(items), "next_page_token": token})


def _open(state: RunState) -> Activity | None:
    """The activity while it has no outcome."""
    return next(iter(state.activities.values()), None) if state.is_open else None


def _item(run: StoredRun, state: RunState, host: Standalone) -> dict[str, Any]:
    identity, row = run.identity, run.row
    activity = _open(state)
    known = activity or host
    return {
        "activity_id": identity.workflow_id,
        "workflow_id": identity.workflow_id,
        "workflow_run_id": run.run_id,
        "activity_execution_id": host.execution_id,
        "workflow_type": identity.workflow_type,
        "activity_type": host.activity_type,
        "activity_class": host.activity_class,
        "task_queue": identity.task_queue,
        "namespace": identity.namespace,
        "status": row.status,
        "status_bucket": status_bucket(row.status),
        "activity_status": host.status if activity is None else "running" if activity.status == "running" else "pending",
        "closed_reason": row.closed_reason,
        "business_key": identity.business_key,
        "payload_codec": state.payload_codec,
        "started_at": ts(identity.started_at),
        "closed_at": ts_or_none(row.closed_at),
        "last_progress_at": ts(row.last_progress_at),
        "last_heartbeat_at": ts_or_none(known.last_heartbeat_at or None),
        "schedule_to_start_deadline_at": ts_or_none(known.schedule_to_start_at),
        "schedule_to_close_deadline_at": ts_or_none(known.schedule_to_close_at),
        "attempt_count": host.attempt_count if activity is None else activity.attempts,
    }


def _attempts(state: RunState, host: Standalone) -> list[dict[str, Any]]:
    """The attempts in order, the newest of a great many."""
    shown = [
        _attempt(each.attempt_id, each.number, each.status, each.owner, each.started_at, each.closed_at, each.last_heartbeat_at)
        for each in host.attempts
    ]
    activity = _open(state)
    if activity is not None and activity.attempt_id is not None:
        status = "running" if activity.status == "running" else "expired"  # it was lost, and may report still
        owner, beat = activity.owner, activity.last_heartbeat_at
        shown.append(_attempt(activity.attempt_id, activity.attempts, status, owner, activity.started_at, None, beat))
    return shown


def _attempt(
    attempt_id: str, number: int, status: str, owner: str | None, started_at: int, closed_at: int | None, beat: int
) -> dict[str, Any]:
    return {
        "activity_attempt_id": attempt_id,
        "attempt_number": number,
        "status": status,
        "lease_owner": owner,
        "started_at": ts(started_at),
        "closed_at": ts_or_none(closed_at),
        "last_heartbeat_at": ts_or_none(beat or None),
    }
