"""History retention by hand: its status and one pass (control-plane 12.5, operations 6.3)."""

from __future__ import annotations

from typing import Any

from actors.upkeep.pruning import Outcome, cutoff, prune_named
from api.http.errors import ApiError
from api.http.input.fields import Fields
from api.http.request import Request
from api.http.response import Response
from api.http.searching import searched
from api.http.times import ts0
from api.system.passes import SCAN_LIMIT, answer, id_list, scan_limit
from store import namespaces
from store.upkeep import pruning
from store.upkeep.pruning import Pruned

# Records of their own that a run has here; the others are parts of its history or its state (operations 6.3).
_NOT_KEPT_APART = (
    "activity_attempts_deleted",
    "activity_executions_deleted",
    "child_calls_deleted",
    "child_projection_repairs_deleted",
    "commands_deleted",
    "failures_deleted",
    "links_deleted",
    "messages_deleted",
    "run_deleted",
    "run_lineage_entries_deleted",
    "run_timer_entries_deleted",
    "run_waits_deleted",
    "signals_deleted",
    "tasks_deleted",
    "timers_deleted",
    "timeline_entries_deleted",
)


async def _retention_days(request: Request) -> int:
    namespace = await namespaces.get(request.services.db, request.namespace)
    if namespace is None:
        text = f"Namespace '{request.namespace}' does not exist."
        raise ApiError(404, "namespace_not_found", text, namespace=request.namespace)
    return namespace.retention_days


async def expired_runs(request: Request, limit: int) -> list[str]:
    """Up to `limit` runs of the request's namespace that retention prunes next, the earliest ends first."""
    before = cutoff(request.services.clock.now(), await _retention_days(request))
    found = await searched(pruning.expired(request.services.searches, request.namespace, 0, before, limit))
    return [run_id for run_id, _ in found]


async def status(request: Request) -> Response:
    """GET /api/system/retention."""
    fields = Fields(dict(request.query()))
    limit = scan_limit(fields)
    fields.check()
    days = await _retention_days(request)
    found = await expired_runs(request, limit)
    return Response(
        200,
        {
            "namespace": request.namespace,
            "retention_days": days,
            "cutoff": ts0(cutoff(request.services.clock.now(), days)),
            "expired_run_count": len(found),
            "expired_run_ids": found,
            "scan_limit": limit,
            "scan_pressure": len(found) >= limit,
        },
    )


def _read(request: Request) -> tuple[list[str] | None, int]:
    fields = request.fields()
    run_ids, limit = id_list(fields, "run_ids"), scan_limit(fields)
    fields.check()
    return run_ids, limit


async def run_pass(request: Request) -> Response:
    """POST /api/system/retention/pass: the runs that are named, or the first expired ones."""
    run_ids, limit = await request.read(_read)
    if run_ids is None:
        run_ids = await expired_runs(request, limit)
    outcomes = await prune_named(request.services.upkeep, request.namespace, run_ids[: min(limit, SCAN_LIMIT)])
    return answer([_shown(outcome) for outcome in outcomes], "pruned")


def _shown(outcome: Outcome) -> dict[str, Any]:
    shown: dict[str, Any] = {"run_id": outcome.run_id, "outcome": outcome.outcome}
    if outcome.pruned is None:
        return {**shown, "reason": outcome.reason}
    return {**shown, **_deleted(outcome.pruned)}


def _deleted(run: Pruned) -> dict[str, Any]:
    deleted = dict.fromkeys(_NOT_KEPT_APART, 0)
    deleted |= {
        "history_events_deleted": run.events,
        "memos_deleted": run.memos,
        "run_summary_deleted": 1 if run.events else 0,
        "search_attributes_deleted": run.search_attributes,
        "updates_deleted": run.updates,
    }
    return {
        "history_events_deleted": run.events,
        "tasks_deleted": 0,
        "external_payloads_deleted": 0,
        "deleted": dict(sorted(deleted.items())),
    }
