"""GET /api/task-queues and /api/task-queues/{queue} (control-plane 7.2, 7.3)."""

from __future__ import annotations

from typing import Any, NamedTuple

from api.control.task_queues import gathering, shapes
from api.control.task_queues.shapes import Queue
from api.http import page_tokens
from api.http.input.fields import Fields
from api.http.request import Request
from api.http.response import Response
from api.http.searching import searched
from api.http.services import Services

_MOST = 1000


class _After(NamedTuple):
    name: str


async def list_(request: Request) -> Response:
    """GET /api/task-queues: by name, all of them up to 1,000 a page."""
    fields = Fields(dict(request.query()))
    size = fields.integer("page_size", low=1, high=_MOST, default=_MOST) or _MOST
    fields.check()
    tokens = page_tokens.ListTokens(_After, "task-queues", request.namespace)
    after = tokens.decode(fields.data.get("next_page_token"))
    services = request.services
    found, more = await searched(gathering.page(services, request.namespace, after.name if after else None, size))
    token = tokens.encode((found[-1].name,)) if more else None
    shown = [{**shapes.item(queue, services.settings), **_admission(services, queue)} for queue in found]
    return Response(200, {"namespace": request.namespace, "task_queues": shown, "next_page_token": token})


async def describe(request: Request) -> Response:
    """GET /api/task-queues/{queue}: also one that nobody has heard of."""
    services = request.services
    queue = await searched(gathering.one(services, request.namespace, request.path["task_queue"]))
    return Response(200, {**shapes.detail(queue, services.settings), **_admission(services, queue)})


def _admission(services: Services, queue: Queue) -> dict[str, Any]:
    """The one place where `admission` (operations 2.2) joins the views."""
    return {}
