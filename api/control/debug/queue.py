"""A task queue as the debug snapshot of one run shows it: as its own view does (control-plane 7.3), without `admission`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from actors.run.state import RunState
from actors.run.views.leases import leases_of
from api.control.task_queues import gathering, shapes
from api.control.task_queues.leases import Held
from api.http.searching import searched
from api.http.services import Services
from store.workers import Worker


async def task_queue(services: Services, state: RunState, listed: list[Worker], now: int) -> dict[str, Any]:
    """The queue of a run. `listed`: the workers registered for it. Its own leases are those of `state`.

    Raises ApiError 503 as lists do.
    """
    queue = await searched(gathering.one(services, state.namespace, state.task_queue))
    own = [Held(state.workflow_id, state.run_id, lease) for lease in leases_of(state) if lease.queue == state.task_queue]
    others = [held for held in queue.leases if held.run_id != state.run_id]
    return shapes.detail(replace(queue, now=now, leases=[*own, *others], workers=listed), services.settings)


def active_count(shown: list[dict[str, Any]]) -> int:
    """How many of these pollers are fresh and take tasks."""
    return sum(poller["status"] == "active" for poller in shown)
