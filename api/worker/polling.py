"""What all polls share: the checks every poll makes, parking, and a client that leaves (worker-protocol 3.6, 4.2)."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from actors.queue.poll import ACTIVITY, Poll
from actors.workers.rules import Registration
from api.http.body import Disconnected
from api.http.errors import worker_error
from api.http.fields import Fields
from api.http.request import Receive, Request
from base.observability.metrics import POLLS

if TYPE_CHECKING:
    from actors.queue.parked_poll import Parked

EMPTY = b'{"task":null}'
EMPTY_DRAINING = b'{"task":null,"poll_status":"draining"}'

_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class PollRequest:
    """The fields of a poll."""

    worker_id: str
    task_queue: str
    build_id: str | None
    poll_request_id: str | None
    history_page_size: int
    accept_history_encoding: str


def read_poll(request: Request) -> PollRequest:
    """The poll's fields; raises ValidationFailed."""
    settings = request.services.settings
    fields = request.fields()
    asked = PollRequest(
        worker_id=fields.required_text("worker_id"),
        task_queue=fields.required_text("task_queue"),
        build_id=fields.text("build_id"),
        poll_request_id=fields.text("poll_request_id"),
        history_page_size=page_size(fields, settings.history_page_size_default, settings.history_page_size_max),
        accept_history_encoding=fields.text("accept_history_encoding", longest=64) or "",
    )
    fields.check()
    return asked


def read_query_poll(request: Request) -> PollRequest:
    """The fields of a query poll, which has no build check and no pages (worker-protocol 8.1); raises ValidationFailed."""
    fields = request.fields()
    asked = PollRequest(
        worker_id=fields.required_text("worker_id"),
        task_queue=fields.required_text("task_queue"),
        build_id=None,
        poll_request_id=fields.text("poll_request_id"),
        history_page_size=request.services.settings.history_page_size_default,
        accept_history_encoding="",
    )
    fields.check()
    return asked


def page_size(fields: Fields, default: int, most: int) -> int:
    """`history_page_size`: 1..1000, reduced to the configured maximum."""
    return min(fields.integer("history_page_size", low=1, high=1000, default=default) or default, most)


async def registered(request: Request, asked: PollRequest) -> Registration:
    """The polling worker's registration; raises the errors of worker-protocol 3.6."""
    workers = request.services.workers
    registration = workers.cached(request.namespace, asked.worker_id) or await workers.get(request.namespace, asked.worker_id)
    worker_id = asked.worker_id
    if registration is None:
        raise worker_error(412, "worker_not_registered", f"Worker [{worker_id}] is not registered.", worker_id=worker_id)
    worker = registration.worker
    if worker.task_queue != asked.task_queue:
        raise worker_error(
            409,
            "task_queue_mismatch",
            "The worker is registered for another task queue.",
            worker_id=worker_id,
            registered_task_queue=worker.task_queue,
            requested_task_queue=asked.task_queue,
        )
    if worker.build_id and asked.build_id and worker.build_id != asked.build_id:
        raise worker_error(
            409,
            "build_id_mismatch",
            "The worker is registered with another build id.",
            worker_id=worker_id,
            registered_build_id=worker.build_id,
            requested_build_id=asked.build_id,
        )
    return registration


async def poll(request: Request, asked: PollRequest, kind: str) -> Any:
    """Parks the poll; the grant, or the body of an empty answer. Raises Disconnected when the client left meanwhile."""
    services = request.services
    registration = await registered(request, asked)
    services.workers.contact(request.namespace, asked.worker_id)
    count = services.metrics.count
    if services.draining:
        count(POLLS, (kind, "draining"))
        return EMPTY
    profile = registration.activity_profile if kind == ACTIVITY else registration.workflow_profile
    draining = registration.worker.status == "draining"
    if draining:
        # Held like any other poll, but no task ever suits it.
        profile = type(profile)(profile.worker_id, profile.build_id, _NOTHING, profile.dialect)
    parked = services.engine.polls.poll(
        Poll(
            namespace=request.namespace,
            queue=asked.task_queue,
            kind=kind,
            worker=profile,
            timeout_seconds=services.settings.poll_timeout_seconds,
            poll_request_id=asked.poll_request_id,
            history_page_size=asked.history_page_size,
        )
    )
    try:
        grant = await outcome(parked, request.receive)
        if grant is None:
            count(POLLS, (kind, "empty"))
            return EMPTY_DRAINING if draining else EMPTY
        connection = request.connection
        if connection is not None:
            if connection.gone():
                parked.abandon()
                raise Disconnected
            connection.on_unread(parked.abandon)
    except Disconnected:
        count(POLLS, (kind, "gone"))
        raise
    count(POLLS, (kind, "task"))
    return grant


async def outcome(parked: Parked, receive: Receive) -> Any:
    """What a parked poll comes to. A client that leaves gives its place, or the lease it just got, back at once."""
    future = parked.future
    if future.done():
        return future.result()
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(_: Any) -> None:
        if not waiter.done():
            waiter.set_result(None)

    watcher = asyncio.ensure_future(receive())
    watcher.add_done_callback(wake)
    future.add_done_callback(wake)
    try:
        await waiter
        if watcher.done():
            raise Disconnected
        return future.result()
    except (Disconnected, asyncio.CancelledError):
        parked.abandon()
        raise
    finally:
        if not watcher.cancel():
            with contextlib.suppress(Exception, asyncio.CancelledError):
                watcher.result()
