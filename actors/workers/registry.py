"""The worker registrations as polls see them: remembered per node, contacts written back in bulk.

A poll reads nothing from Postgres: a registration is kept for ten seconds, or until another node says that it changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, Protocol

import msgspec

from actors.clock import Clock
from actors.run.words import Reason
from actors.workers.cohorts import UNVERSIONED
from actors.workers.rollouts import Rollouts
from actors.workers.rules import Registration, missing_for_query, registration_of, replacing
from base.service import Service
from store import workers
from store.connections.pool import Database
from store.errors import StoreError
from store.workers import Contact, Worker

TOPIC = "workers"

_AHEAD = 1_000_000  # microseconds that clocks of nodes may differ
_REMEMBER_SECONDS = 10.0
_REMEMBER_QUEUE_SECONDS = 1.0
_FLUSH_SECONDS = 3.0
_MAX_REMEMBERED = 100_000


class Broadcaster(Protocol):
    """Tells the other nodes that something changed (bus.broadcast.Broadcast)."""

    def broadcast(self, topic: str, payload: bytes) -> bool: ...

    def on_broadcast(self, topic: str, handler: Any) -> int: ...


class WorkerRegistry(Service):
    """Registrations by (namespace, worker id). As a service it writes contact times back every few seconds.

    `stale_after_seconds`: without contact for so long a worker counts as gone. `rollouts`: what is known of their build ids.
    """

    def __init__(
        self,
        db: Database,
        stale_after_seconds: int,
        broadcaster: Broadcaster | None = None,
        clock: Clock | None = None,
    ) -> None:
        super().__init__()
        self._db = db
        self._stale_after = stale_after_seconds
        self._clock = clock or Clock()
        self.rollouts = Rollouts(db, self._clock)
        self._broadcaster = broadcaster
        self._known: dict[tuple[str, str], tuple[Registration, float]] = {}
        self._queues: dict[tuple[str, str], tuple[list[Registration], float]] = {}
        self._changes = 0
        self._contacts: dict[tuple[str, str], int] = {}
        if broadcaster is not None:
            broadcaster.on_broadcast(TOPIC, self._changed_elsewhere)

    async def _start(self) -> None:
        self._spawn(self._keep_flushing(), name="worker contacts")

    async def _stopped(self) -> None:
        """Writes what is left."""
        with contextlib.suppress(StoreError):
            await self.flush()

    def cached(self, namespace: str, worker_id: str) -> Registration | None:
        """The registration if it is fresh in memory."""
        entry = self._known.get((namespace, worker_id))
        if entry is not None and entry[1] > time.monotonic():
            return entry[0]
        return None

    async def get(self, namespace: str, worker_id: str) -> Registration | None:
        """The registration, read from the store when it is not fresh in memory. None: there is none."""
        registration = self.cached(namespace, worker_id)
        if registration is not None:
            return registration
        worker = await workers.get(self._db, namespace, worker_id)
        if worker is None:
            self._known.pop((namespace, worker_id), None)
            return None
        registration = registration_of(worker)
        if len(self._known) >= _MAX_REMEMBERED:
            self._known.clear()
        self._known[(namespace, worker_id)] = (registration, time.monotonic() + _REMEMBER_SECONDS)
        return registration

    async def register(self, worker: Worker) -> None:
        """Creates or replaces a registration, everywhere. Raises `rules.DefinitionChanged`, and stores nothing."""
        noted, now = self.last_contact(worker.namespace, worker.worker_id), worker.registered_at

        def decide(stored: Worker | None) -> Worker:
            return replacing(stored, worker, noted, now, self._stale_after)

        await workers.register(self._db, worker.namespace, worker.worker_id, decide)
        self.changed(worker.namespace, worker.worker_id)

    async def missing_for_query(
        self, namespace: str, task_queue: str, workflow_type: str, compatibility: str | None
    ) -> Reason | None:
        """Why no worker of the queue could answer a query of this type and build marker, None when one can."""
        reason: Reason | None = None
        for newest in (False, True):
            # What is remembered may be a moment old; only what is stored now refuses a query.
            listed = await self.of_queue(namespace, task_queue, newest=newest)
            reason = missing_for_query(listed, workflow_type, compatibility, self._clock.now(), self._stale_after)
            if reason is None:
                break
        return reason

    async def of_queue(self, namespace: str, task_queue: str, *, newest: bool = False) -> list[Registration]:
        """The registrations of a task queue with the contacts noted on this node; stored ones may be a second old.

        `newest`: as stored now.
        """
        key = (namespace, task_queue)
        entry = None if newest else self._queues.get(key)
        if entry is None or entry[1] <= time.monotonic():
            changes = self._changes
            listed = [registration_of(worker) for worker in await workers.listing(self._db, namespace, task_queue)]
            entry = (listed, time.monotonic() + _REMEMBER_QUEUE_SECONDS)
            if changes == self._changes:
                self._queues[key] = entry
            if len(self._queues) >= _MAX_REMEMBERED:
                self._queues.clear()
        for registration in entry[0]:
            self.touched(registration.worker)
        return entry[0]

    async def listing(self, namespace: str, task_queue: str | None = None, *, db: Database | None = None) -> list[Worker]:
        """The workers of a namespace as stored now, all or those of a queue, with the contacts noted on this node.

        `db`: read over these connections. The namespace need not exist.
        """
        if "\x00" in namespace:
            return []
        return [self.touched(worker) for worker in await workers.listing(db or self._db, namespace, task_queue)]

    def touched(self, worker: Worker) -> Worker:
        """The worker as it is now: with the contact that was noted here and is not yet written back, and draining or not."""
        worker.status = self.status(worker)
        noted = self.last_contact(worker.namespace, worker.worker_id)
        # Noted here since the last write-back, so what is stored is later only by another node's contact, or wrong.
        if noted > worker.last_heartbeat_at or (noted and worker.last_heartbeat_at > self._clock.now() + _AHEAD):
            worker.last_heartbeat_at = noted
        return worker

    def status(self, worker: Worker) -> str:
        """`active` or `draining`, as its cohort is (operations 4.1): what is stored with the worker does not count."""
        cohort = worker.namespace, worker.task_queue, worker.build_id or UNVERSIONED
        return "draining" if self.rollouts.drains(cohort) else "active"

    def contact(self, namespace: str, worker_id: str) -> None:
        """Notes that the worker was in contact just now."""
        self._contacts[(namespace, worker_id)] = self._clock.now()

    def last_contact(self, namespace: str, worker_id: str) -> int:
        """The contact noted here and not yet written back, 0 when none."""
        return self._contacts.get((namespace, worker_id), 0)

    def changed(self, namespace: str, worker_id: str) -> None:
        """Forgets a registration that was just written or deleted, here and on the other nodes."""
        self._forget(namespace, worker_id)
        self._contacts.pop((namespace, worker_id), None)
        if self._broadcaster is not None:
            self._broadcaster.broadcast(TOPIC, msgspec.json.encode([namespace, worker_id]))

    def forget_namespace(self, namespace: str) -> None:
        """Its registrations are gone: ask again, and write no contacts for them."""
        for key in [key for key in self._known if key[0] == namespace]:
            del self._known[key]
        self._contacts = {key: at for key, at in self._contacts.items() if key[0] != namespace}
        self._queues.clear()
        self._changes += 1

    def _changed_elsewhere(self, _sender: str, payload: bytes) -> None:
        with contextlib.suppress(msgspec.MsgspecError):
            namespace, worker_id = msgspec.json.decode(payload, type=tuple[str, str])
            self._forget(namespace, worker_id)

    def _forget(self, namespace: str, worker_id: str) -> None:
        self._known.pop((namespace, worker_id), None)
        self._queues.clear()
        self._changes += 1

    async def flush(self) -> None:
        """Writes the noted contact times in one statement."""
        if not self._contacts:
            return
        contacts, self._contacts = self._contacts, {}
        try:
            await workers.touch(
                self._db, [Contact(namespace, worker_id, at) for (namespace, worker_id), at in contacts.items()]
            )
        except StoreError:
            self._contacts = {**contacts, **self._contacts}
            raise

    async def _keep_flushing(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            with contextlib.suppress(StoreError):
                await self.flush()
