"""What is read of schedules: the list, one of them, its audit history (control-plane 11)."""

from __future__ import annotations

from actors.run import opaque
from actors.schedule import presentation
from actors.schedule.state import DELETED, decode
from api.control.schedules.fields import is_schedule_id, read_page
from api.control.schedules.views import audit_event, not_found, shown
from api.http import page_tokens
from api.http.input.fields import Fields
from api.http.input.offload import off_loop
from api.http.request import Request
from api.http.response import Response
from api.http.searching import searched
from store import schedules
from store.schedules import Position, StoredSchedule

# The SDK reads one page and no more, so that a page is as long as it can be.
MOST_LISTED = 10_000
MOST_LISTED_BYTES = 16 * 1024 * 1024


async def list_(request: Request) -> Response:
    """GET /api/schedules: those that are not deleted, newest first."""
    fields = Fields(dict(request.query()))
    size = fields.integer("page_size", low=1, high=MOST_LISTED, default=MOST_LISTED) or MOST_LISTED
    fields.check()
    tokens = page_tokens.ListTokens(Position, "schedules", request.namespace)
    after = tokens.decode(fields.data.get("next_page_token"))
    page = schedules.page(request.services.searches, request.namespace, after, size + 1, MOST_LISTED_BYTES)
    found = await searched(page)
    items, last = await off_loop(_rendered, found[:size])
    token = tokens.encode(last) if last is not None and _goes_on(found, last) else None
    return Response(200, b'{"schedules":[%b],"next_page_token":%b}' % (b",".join(items), opaque.text_of(token)))


def _rendered(found: list[StoredSchedule]) -> tuple[list[bytes], Position | None]:
    """The items, as many as one answer may hold, and the place of the last; what is stored may be compressed."""
    items: list[bytes] = []
    size, last = 0, None
    for row in found:
        item = opaque.text_of(presentation.list_item(decode(row.state, row.definition)))
        size += len(item)
        if items and size > MOST_LISTED_BYTES:
            break
        items.append(item)
        last = Position(row.created_at, row.schedule_key)
    return items, last


def _goes_on(found: list[StoredSchedule], last: Position) -> bool:
    """Whether there may be a schedule behind the last one shown."""
    cut = sum(len(row.state) + len(row.definition) for row in found) >= MOST_LISTED_BYTES
    return cut or found[-1].schedule_key != last.schedule_key


async def describe(request: Request) -> Response:
    """GET /api/schedules/{schedule_id}."""
    schedule_id = named(request)
    services = request.services
    row = await schedules.get(services.db, services.engine.schedules.key(request.namespace, schedule_id))
    if row is None or row.status == DELETED:
        raise not_found(request.namespace, schedule_id)
    return shown(presentation.detail(decode(row.state, row.definition)))


async def history(request: Request) -> Response:
    """GET /api/schedules/{schedule_id}/history: also of a deleted one."""
    schedule_id = named(request)
    limit, after = read_page(request.query())
    services = request.services
    key = services.engine.schedules.key(request.namespace, schedule_id)
    found = await schedules.audit(services.db, key, after, limit + 1, MOST_LISTED_BYTES)
    if found is None:
        raise not_found(request.namespace, schedule_id)
    page = found[:limit]
    more = len(found) > limit or sum(len(event.payload) for event in found) >= MOST_LISTED_BYTES
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
