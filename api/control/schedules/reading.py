"""What is read of schedules: the list, one of them, its audit history (control-plane 11)."""

from __future__ import annotations

from actors.schedule import presentation
from actors.schedule.state import DELETED, decode
from api.control.schedules.fields import is_schedule_id, read_page
from api.control.schedules.views import audit_event, not_found, shown
from api.http.request import Request
from api.http.response import Response
from api.http.searching import searched
from store import schedules


async def list_(request: Request) -> Response:
    """GET /api/schedules: all that are not deleted, newest first."""
    found = await searched(schedules.list_(request.services.searches, request.namespace))
    items = [presentation.list_item(decode(row.state, row.definition)) for row in found]
    return shown({"schedules": items, "next_page_token": None})


async def describe(request: Request) -> Response:
    """GET /api/schedules/{schedule_id}."""
    schedule_id = named(request)
    row = await schedules.get(request.services.db, request.namespace, schedule_id)
    if row is None or row.status == DELETED:
        raise not_found(request.namespace, schedule_id)
    return shown(presentation.detail(decode(row.state, row.definition)))


async def history(request: Request) -> Response:
    """GET /api/schedules/{schedule_id}/history: also of a deleted one."""
    schedule_id = named(request)
    limit, after = read_page(request.query())
    found = await schedules.audit(request.services.db, request.namespace, schedule_id, after, limit + 1)
    if found is None:
        raise not_found(request.namespace, schedule_id)
    page, more = found[:limit], len(found) > limit
    body = {
        "schedule_id": schedule_id,
        "namespace": request.namespace,
        "events": [audit_event(event) for event in page],
        "next_cursor": page[-1].sequence if more else None,
        "has_more": more,
    }
    return Response(200, body)


def named(request: Request) -> str:
    """The schedule id in the URL; raises ApiError 404 for a text that is none."""
    schedule_id = request.path["schedule_id"]
    if not is_schedule_id(schedule_id):
        raise not_found(request.namespace, schedule_id)
    return schedule_id
