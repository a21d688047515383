"""Activity timeouts by hand: which have passed, and one pass (control-plane 12.4, operations 6.2)."""

from __future__ import annotations

from typing import Any

from actors.run.state import decode
from actors.upkeep.candidates import MOST, expired_executions
from actors.upkeep.repairs import Enforced, enforce
from api.http.input.fields import Fields
from api.http.request import Request
from api.http.response import Response
from api.http.searching import searched
from api.system.passes import answer, id_list, scan_limit
from store.upkeep import overdue


async def _expired(request: Request, limit: int) -> tuple[list[str], bool]:
    """Up to `limit` executions of the namespace whose deadline passed, and whether there may be more."""
    services = request.services
    now = services.clock.now()
    runs, more = await searched(overdue.runs(services.searches, now, MOST, request.namespace))
    found = [execution_id for run in runs for execution_id in expired_executions(decode(run.state), now)]
    return found[:limit], more or len(found) >= limit


async def status(request: Request) -> Response:
    """GET /api/system/activity-timeouts."""
    fields = Fields(dict(request.query()))
    limit = scan_limit(fields)
    fields.check()
    found, pressure = await _expired(request, limit)
    body = {
        "expired_count": len(found),
        "expired_execution_ids": found,
        "scan_limit": limit,
        "scan_pressure": pressure,
    }
    return Response(200, body)


def _read(request: Request) -> tuple[list[str] | None, int]:
    fields = request.fields()
    execution_ids, limit = id_list(fields, "execution_ids"), scan_limit(fields)
    fields.check()
    return execution_ids, limit


async def run_pass(request: Request) -> Response:
    """POST /api/system/activity-timeouts/pass: the executions that are named, or those the status lists."""
    execution_ids, limit = await request.read(_read)
    if execution_ids is None:
        execution_ids, _ = await _expired(request, limit)
    services = request.services
    results = [
        await enforce(services.db, services.engine, request.namespace, execution_id, services.clock.now())
        for execution_id in list(dict.fromkeys(execution_ids))[:limit]
    ]
    return answer([_shown(result) for result in results], "enforced")


def _shown(result: Enforced) -> dict[str, Any]:
    shown: dict[str, Any] = {"execution_id": result.execution_id, "outcome": result.outcome}
    if result.outcome == "enforced":
        return {**shown, "has_retry": bool(result.has_retry)}
    return {**shown, "reason": result.reason}
