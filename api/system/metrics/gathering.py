"""What both kinds of metrics are made of, gathered at most every few seconds per namespace, whoever asks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from actors.run.state import decode
from actors.run.times import Micros
from actors.run.views.census import Census, Oldest
from actors.schedule.state import totals
from api.control.worker_fleet import live_workers
from api.http.services import Services
from store.views import metrics
from store.views.metrics import Place, ReadyCounts
from store.workers import Worker

_FRESH_SECONDS = 5.0
_PAGE = 100  # open runs read and counted at once: a few milliseconds of the event loop
_MOST_NAMESPACES = 1000
_MISSED_AFTER = 5_000_000  # microseconds


@dataclass(frozen=True, slots=True)
class Gathered:
    """A namespace at the instant `at`. `census` holds the newest open runs; `cut`: there were more than are looked at."""

    at: Micros
    reasons: dict[str | None, int]  # how many runs by the reason of their end, None: open
    superseded: int  # runs that are not the latest of their workflow id
    ready: ReadyCounts
    census: Census
    cut: bool
    workers: list[Worker]  # live ones
    archived: int
    schedules: Schedules
    added: int  # tasks that became ready in the last minute
    dispatched: int


@dataclass(slots=True)
class Schedules:
    """Schedules that are not deleted. `missed`: active ones that were due some seconds ago."""

    active: int = 0
    paused: int = 0
    missed: Oldest = field(default_factory=Oldest)
    fires: int = 0
    failures: int = 0


class Gathering:
    """The newest numbers per namespace."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[asyncio.Task[Gathered], float]] = {}  # and until when they are fresh, in loop time

    async def of(self, services: Services, namespace: str) -> Gathered:
        """The numbers of a namespace, some seconds old at most. Raises `StoreError` when they cannot be read."""
        now = asyncio.get_running_loop().time()
        task, fresh_until = self._kept.get(namespace, (None, 0.0))
        if task is None or (task.done() and (fresh_until <= now or task.exception() is not None)):
            if len(self._kept) >= _MOST_NAMESPACES:
                self._kept = {name: kept for name, kept in self._kept.items() if not kept[0].done() or kept[1] > now}
            task = asyncio.create_task(_gather(services, namespace))
            self._kept[namespace] = task, now + _FRESH_SECONDS
        return await asyncio.shield(task)


async def _gather(services: Services, namespace: str) -> Gathered:
    settings, db = services.settings, services.searches
    now = services.clock.now()
    workers = live_workers(await services.workers.listing(namespace, db=db), settings, now)
    ready = await metrics.ready_tasks(db, namespace, now, now - settings.repair_policy.redispatch_after_seconds * 1_000_000)
    reasons = await metrics.runs_by_reason(db, namespace)
    superseded = await metrics.superseded(db, namespace)
    census = Census(settings.rules, {(worker.task_queue, worker.build_id) for worker in workers})
    cut = await _count(services, namespace, census, now)
    archived = await metrics.archived(db, namespace)
    schedules = await _schedules(services, namespace, now)
    traffic = await services.engine.traffic(namespace, ())
    added, dispatched = traffic.rates.get(("", ""), (0, 0))
    return Gathered(now, reasons, superseded, ready, census, cut, workers, archived, schedules, added, dispatched)


async def _schedules(services: Services, namespace: str, now: Micros) -> Schedules:
    found = Schedules()
    after = ""
    while page := await metrics.schedules(services.searches, namespace, after, _PAGE):
        for schedule in page:
            active = schedule.status == "active"
            found.active += active
            found.paused += not active
            if active and schedule.wake_at is not None and schedule.wake_at < now - _MISSED_AFTER:
                found.missed.add(schedule.wake_at)
            fires, failures = totals(schedule.state)
            found.fires += fires
            found.failures += failures
        if len(page) < _PAGE or found.active + found.paused >= services.settings.metrics_open_run_limit:
            break
        after = page[-1].schedule_key
    return found


async def _count(services: Services, namespace: str, census: Census, now: Micros) -> bool:
    """Count open runs, newest first; whether some are left out."""
    most = services.settings.metrics_open_run_limit
    after: Place | None = None
    while True:
        page = await metrics.open_runs(services.searches, namespace, after, _PAGE)
        for run in page:
            if census.runs >= most:
                return True
            state = decode(run.state)
            if state.is_open:
                census.count(state, now)
        if len(page) < _PAGE:
            return False
        after = page[-1].started_at, page[-1].run_id
