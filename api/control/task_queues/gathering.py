"""What is known of task queues: ready rows, noted leases, registered workers, and rates of all nodes (operations 2.1)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence

from actors.cluster.rates import Rate
from actors.run import ids
from api.control.task_queues.leases import Held, leases
from api.control.task_queues.shapes import Queue
from api.http.services import Services
from store.views import task_queues
from store.views.task_queues import ReadyTasks
from store.workers import Worker


async def one(services: Services, namespace: str, name: str) -> Queue:
    """A queue, also one that nobody has heard of. Raises what reads over `services.searches` raise."""
    now = services.clock.now()
    ready = await task_queues.ready_tasks(services.searches, namespace, now, _overdue_before(services, now), name)
    held = [each for each in await leases(services, namespace) if each.lease.queue == name]
    workers = await services.workers.listing(namespace, name, db=services.searches)
    (queue,) = await _joined(services, namespace, [name], now, ready, {name: held}, {name: workers})
    return queue


async def page(services: Services, namespace: str, after: str | None, most: int) -> tuple[list[Queue], bool]:
    """The queues of a namespace by name, behind `after`; and whether there are more. Raises as `one` does."""
    now = services.clock.now()
    ready = await task_queues.ready_tasks(services.searches, namespace, now, _overdue_before(services, now))
    held: dict[str, list[Held]] = defaultdict(list)
    for each in await leases(services, namespace):
        held[each.lease.queue].append(each)
    workers: dict[str, list[Worker]] = defaultdict(list)
    for worker in await services.workers.listing(namespace, db=services.searches):
        workers[worker.task_queue].append(worker)
    names = sorted({task.queue for task in ready} | held.keys() | workers.keys())
    shown = [name for name in names if after is None or name > after]
    return await _joined(services, namespace, shown[:most], now, ready, held, workers), len(shown) > most


def _overdue_before(services: Services, now: int) -> int:
    return now - services.settings.repair_policy.redispatch_after_seconds * 1_000_000


async def _joined(
    services: Services,
    namespace: str,
    names: Sequence[str],
    now: int,
    ready: Sequence[ReadyTasks],
    held: dict[str, list[Held]],
    workers: dict[str, list[Worker]],
) -> list[Queue]:
    if not names:
        return []  # the nodes would be asked for nothing
    by_queue: dict[str, dict[str, ReadyTasks]] = {name: {} for name in names}
    for task in ready:
        if task.queue in by_queue:
            by_queue[task.queue][task.kind] = task
    rates: dict[str, dict[str, Rate]] = defaultdict(dict)
    traffic = await services.engine.traffic(namespace, names)
    for (name, kind), rate in traffic.rates.items():
        rates[name][kind] = rate
    oldest = [task.oldest[1] for kinds in by_queue.values() for task in kinds.values() if task.oldest is not None]
    keys = {task_id: key for task_id in oldest if (key := ids.run_key_of(task_id)) is not None}
    found = await task_queues.runs_of_keys(services.db, list(set(keys.values()))) if keys else {}
    runs = {task_id: found[key] for task_id, key in keys.items() if key in found}
    everywhere: Counter[str] = Counter(
        each.lease.kind for each in await leases(services, namespace) if each.lease.expires_at > now
    )
    return [
        Queue(
            name,
            namespace,
            now,
            by_queue[name],
            held.get(name, ()),
            workers.get(name, ()),
            rates.get(name, {}),
            runs,
            traffic.queries.get(name, 0),
            everywhere,
        )
        for name in names
    ]
