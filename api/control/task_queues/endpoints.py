"""GET /api/task-queues and /api/task-queues/{queue} (control-plane 7.2, 7.3)."""

from __future__ import annotations

from typing import Any, NamedTuple

from actors.run.words import TaskKind
from actors.workers.rules import is_stale
from api.control.task_queues import admission, gathering, shapes
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
    counts = await searched(_counts(services, request.namespace, found))
    shown = [{**shapes.item(queue, services.settings), "admission": _admission(services, queue, counts)} for queue in found]
    return Response(200, {"namespace": request.namespace, "task_queues": shown, "next_page_token": token})


async def describe(request: Request) -> Response:
    """GET /api/task-queues/{queue}: also one that nobody has heard of."""
    services = request.services
    queue = await searched(gathering.one(services, request.namespace, request.path["task_queue"]))
    counts = await searched(_counts(services, request.namespace, [queue]))
    return Response(200, {**shapes.detail(queue, services.settings), "admission": _admission(services, queue, counts)})


async def _counts(services: Services, namespace: str, queues: list[Queue]) -> admission.Counts:
    """The places taken under caps; of the moment at which the first of the queues was looked at, they share it."""
    if not queues:
        return {}
    names = [queue.name for queue in queues]
    return await admission.count(services.searches, services.settings.admission, namespace, names, queues[0].now)


def _admission(services: Services, queue: Queue, counts: admission.Counts) -> dict[str, Any]:
    """`admission` of operations 2.2."""
    settings = services.settings
    uses: dict[str, admission.Use] = {kind: _use(services, queue, kind) for kind in admission.KINDS}
    queries = admission.Queries(settings.query_tasks_per_queue, queue.queries)
    return admission.admission_of(settings.admission, queue.namespace, queue.name, queue.now, uses, counts, queries)


def _use(services: Services, queue: Queue, kind: TaskKind) -> admission.Use:
    stale_after = services.settings.worker_stale_after_seconds
    workers = [worker for worker in queue.workers if worker.status == "active" and not is_stale(worker, queue.now, stale_after)]
    leases = [held for held in queue.leases if held.lease.kind == kind]
    ready = queue.ready.get(kind)
    return admission.Use(
        workers=len(workers),
        slots=sum(
            worker.max_concurrent_workflow_tasks if kind == "workflow" else worker.max_concurrent_activity_tasks
            for worker in workers
        ),
        leased=len(leases),
        ready=0 if ready is None else ready.due,
        active=sum(not queue.is_expired(held) for held in leases),
        namespace_active=queue.active_everywhere.get(kind, 0),
    )
