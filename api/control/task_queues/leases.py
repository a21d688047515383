"""The leases of a namespace, read at most about once a second on each node (operations 2.1)."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field

from actors.run import state as run_state
from actors.run.views.leases import SEE_STATE, Lease, leases_of, noted
from api.http.services import Services
from store.views import task_queues

_KEPT_SECONDS = 1.0
_KEPT_TIMES = 10.0  # what took long to read is kept that many times as long
_MOST_NAMESPACES = 100


@dataclass(frozen=True, slots=True)
class Held:
    """A lease with the run that granted it."""

    workflow_id: str
    run_id: str
    lease: Lease


@dataclass(slots=True)
class LeasesSeen:
    """What was read last, by namespace (`Services.kept`). Who asks while it is being read waits for that."""

    found: dict[str, tuple[float, list[Held]]] = field(default_factory=dict)
    reading: dict[str, asyncio.Task[list[Held]]] = field(default_factory=dict)


async def leases(services: Services, namespace: str) -> list[Held]:
    """The leases of the open runs of a namespace, expired ones included; a second old, or older where there are very many.

    Raises what reads over `services.searches` raise.
    """
    seen = services.kept(LeasesSeen)
    known = seen.found.get(namespace)
    if known is not None and known[0] > time.monotonic():
        return known[1]
    task = seen.reading.get(namespace)
    if task is None:
        task = seen.reading[namespace] = asyncio.get_running_loop().create_task(_read(services, namespace, seen))
        task.add_done_callback(lambda done: _ended(seen, namespace, done))
    return await asyncio.shield(task)


def _ended(seen: LeasesSeen, namespace: str, done: asyncio.Task[list[Held]]) -> None:
    seen.reading.pop(namespace, None)
    if not done.cancelled():
        done.exception()  # told to all who waited; there may be none left


async def _read(services: Services, namespace: str, seen: LeasesSeen) -> list[Held]:
    began = time.monotonic()
    found: list[Held] = []
    for run in await task_queues.leases(services.searches, namespace):
        held = leases_of(run_state.decode(run.state)) if run.state is not None else _noted(run)
        found += [Held(run.workflow_id, run.run_id, lease) for lease in held]
    now = time.monotonic()
    if len(seen.found) >= _MOST_NAMESPACES:
        seen.found.clear()
    seen.found[namespace] = (now + max(_KEPT_SECONDS, _KEPT_TIMES * (now - began)), found)
    return found


def _noted(run: task_queues.NotedLeases) -> list[Lease]:
    return [] if run.note == SEE_STATE else noted(run.note, run.version)
