"""What all polls share: the checks every poll makes, parking, and a client that leaves (worker-protocol 3.6, 4.2)."""

from __future__ import annotations

import asyncio
import contextlib
from enum import Enum

import msgspec

from actors.queue.parked_poll import Grant, ParkedPoll, PollState
from actors.queue.poll import ACTIVITY, QUERY, Poll, WorkerProfile
from actors.workers.cohorts import UNVERSIONED
from actors.workers.rules import Registration
from api.http.errors import worker_error
from api.http.input.body import Disconnected
from api.http.input.fields import Fields
from api.http.request import Receive, Request
from base.observability.metrics import POLLS

_NOTHING: frozenset[str] = frozenset()


class Empty(Enum):
    """A poll that got nothing; the value is the body of its answer."""

    NO_TASK = b'{"task":null}'
    DRAINING = b'{"task":null,"poll_status":"draining"}'


def read_poll(request: Request, kind: str) -> tuple[Poll, str]:
    """The poll, with no more of its worker's profile than the ids, and the encodings of history it takes.

    A query poll has no build check and no pages (worker-protocol 8.1). Raises ValidationFailed.
    """
    settings = request.services.settings
    fields = request.fields()
    worker_id = fields.required_text("worker_id")
    queue = fields.required_text("task_queue")
    build_id = None if kind == QUERY else fields.text("build_id")
    poll_request_id = fields.text("poll_request_id")
    size, encodings = settings.history_page_size_default, ""
    if kind != QUERY:
        size = page_size(fields, size, settings.history_page_size_max)
        encodings = fields.text("accept_history_encoding", longest=64) or ""
    fields.check()
    worker = WorkerProfile(worker_id, build_id)
    return Poll(request.namespace, queue, kind, worker, settings.poll_timeout_seconds, poll_request_id, size), encodings


def page_size(fields: Fields, default: int, most: int) -> int:
    """`history_page_size`: 1..1000, reduced to the configured maximum."""
    return min(fields.integer("history_page_size", low=1, high=1000, default=default) or default, most)


async def registered(request: Request, poll: Poll) -> Registration:
    """The polling worker's registration; raises the errors of worker-protocol 3.6."""
    workers = request.services.workers
    worker_id, build_id = poll.worker.worker_id, poll.worker.build_id
    registration = workers.cached(request.namespace, worker_id) or await workers.get(request.namespace, worker_id)
    if registration is None:
        raise worker_error(412, "worker_not_registered", f"Worker [{worker_id}] is not registered.", worker_id=worker_id)
    worker = registration.worker
    if worker.task_queue != poll.queue:
        raise worker_error(
            409,
            "task_queue_mismatch",
            "The worker is registered for another task queue.",
            worker_id=worker_id,
            registered_task_queue=worker.task_queue,
            requested_task_queue=poll.queue,
        )
    if worker.build_id and build_id and worker.build_id != build_id:
        raise worker_error(
            409,
            "build_id_mismatch",
            "The worker is registered with another build id.",
            worker_id=worker_id,
            registered_build_id=worker.build_id,
            requested_build_id=build_id,
        )
    return registration


async def hold(request: Request, poll: Poll) -> Grant | Empty:
    """Parks a poll, with its worker's registered profile, until there is a task for it or its time is over.

    While the worker's build id drains, it is held like any other, but no task ever suits it (operations 4.3).

    Raises Disconnected when the client left meanwhile, and what the engine raises.
    """
    services = request.services
    registration = await registered(request, poll)
    services.workers.contact(request.namespace, poll.worker.worker_id)
    count = services.metrics.count
    if services.draining:
        count(POLLS, (poll.kind, "draining"))
        return Empty.NO_TASK
    profile = registration.activity_profile if poll.kind == ACTIVITY else registration.workflow_profile
    rollouts = services.workers.rollouts
    cohort = (request.namespace, poll.queue, profile.build_id or UNVERSIONED)
    loop = asyncio.get_running_loop()
    left = poll.timeout_seconds
    until = loop.time() + left
    try:
        while True:
            draining = rollouts.drains(cohort)
            if draining:
                profile = WorkerProfile(profile.worker_id, profile.build_id, _NOTHING, profile.dialect)
            parked = services.engine.polls.poll(msgspec.structs.replace(poll, worker=profile, timeout_seconds=left))
            grant = await _held(request, parked, cohort)
            if parked.state is not PollState.ABANDONED:
                break
            # Its build id drains from now on, or does no longer: it waits on as that says.
            profile = registration.activity_profile if poll.kind == ACTIVITY else registration.workflow_profile
            left = max(until - loop.time(), 0.0)
        if grant is None:
            count(POLLS, (poll.kind, "empty"))
            return Empty.DRAINING if draining else Empty.NO_TASK
        connection = request.connection
        if connection is not None:
            if connection.gone():
                parked.abandon()
                raise Disconnected
            connection.on_unread(parked.abandon)
    except Disconnected:
        count(POLLS, (poll.kind, "gone"))
        raise
    count(POLLS, (poll.kind, "task"))
    return grant


async def _held(request: Request, parked: ParkedPoll, cohort: tuple[str, str, str]) -> Grant | None:
    """What a parked poll comes to. It is abandoned instead when its cohort begins or ends to drain meanwhile.

    A task is given only by what is certain of the cohort: else that is read first.
    """
    rollouts = request.services.workers.rollouts
    rollouts.hold(cohort, parked)
    try:
        grant = await outcome(parked, request.receive)
        if grant is not None and not rollouts.known:
            await rollouts.confirm()
        return grant
    except BaseException:
        parked.abandon()
        raise
    finally:
        rollouts.let_go(cohort, parked)


async def outcome(parked: ParkedPoll, receive: Receive) -> Grant | None:
    """What a parked poll comes to. A client that leaves gives its place, or the lease it just got, back at once."""
    future = parked.future
    if future.done():
        return future.result()
    waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def wake(_: object) -> None:
        if not waiter.done():
            waiter.set_result(None)

    watcher = asyncio.ensure_future(receive())
    watcher.add_done_callback(wake)
    future.add_done_callback(wake)
    try:
        await waiter
        if watcher.done():
            raise Disconnected
        return None if future.cancelled() else future.result()
    except (Disconnected, asyncio.CancelledError):
        parked.abandon()
        raise
    finally:
        if not watcher.cancel():
            with contextlib.suppress(Exception, asyncio.CancelledError):
                watcher.result()
