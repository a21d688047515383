"""Hands the committed audit events of this node's schedules to the event stream, as `publisher` does with those of runs.

The stream knows a schedule by its key, so that the order holds over all records of a schedule id. How far a schedule is
published stands in its row: written along with its next commit, and by a statement for many once in a while.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import orjson

from actors.run import ids
from actors.run.times import iso
from actors.schedule.state import ScheduleState, decode
from actors.schedule.transition import AuditEvent
from bus.events import EventStream
from bus.subjects import Subjects
from store import schedules
from store.cluster.republishing import Job
from store.commit.schedule_writes import AuditRow
from store.connections.pool import Database
from store.errors import StoreUnavailable

_PAGE = 1000
_MOST = 100_000  # events of a schedule that are published once more


class SchedulePublisher:
    """What is published of which schedule. `owns` says whether this node hosts a shard."""

    def __init__(self, db: Database, subjects: Subjects, owns: Callable[[int], bool]) -> None:
        self._db = db
        self._subjects = subjects
        self._owns = owns
        self._stream: EventStream | None = None
        self._acked: dict[str, int] = {}
        self._dropped: set[str] = set()
        self._catching_up: set[str] = set()
        self._again: dict[str, int] = {}  # key -> the first event to be published once more

    def attach(self, stream: EventStream) -> None:
        """The stream to publish to; its callbacks are `acked` and `dropped`."""
        self._stream = stream

    def acked(self, schedule_key: str, sequence: int) -> None:
        """The stream has the schedule's events up to `sequence`."""
        self._acked[schedule_key] = sequence

    def dropped(self, schedule_key: str) -> None:
        """The stream's queue was full: the tail is published later, from the store."""
        self._dropped.add(schedule_key)

    def known(self, schedule_key: str) -> int:
        """How far the schedule is published, as far as not yet written to its row; 0 when the row knows best."""
        return self._acked.get(schedule_key, 0)

    def publish(self, schedule_key: str, state: ScheduleState, events: Sequence[AuditEvent | AuditRow], published: int) -> None:
        """Publish what was just committed: the newest events of the schedule; `published` is what its row says."""
        stream = self._stream
        if stream is None or not events or not self._owns(ids.shard_of_id(schedule_key)):
            return
        first = events[0].sequence
        if first - 1 > published and schedule_key not in self._dropped and not stream.follows(schedule_key, first):
            # Events from before this node had the schedule are not out yet: the sweep publishes all of them in order.
            self._dropped.add(schedule_key)
        if schedule_key in self._dropped:
            return
        for event in events:
            # A schedule has no workflow type: the token of the empty string, which no run's subject has.
            subject = self._subjects.event(state.namespace, "", state.schedule_id, event.event_type)
            stream.publish(schedule_key, event.sequence, subject, body_of(state.namespace, state.schedule_id, event))

    async def flush(self) -> None:
        """Write to the rows how far quiet schedules are published."""
        if not self._acked:
            return
        acked, self._acked = self._acked, {}
        try:
            await schedules.mark_published(self._db, list(acked.items()))
        except StoreUnavailable:
            for key, sequence in acked.items():
                self._acked.setdefault(key, sequence)

    async def repeat(self, jobs: Mapping[int, Job]) -> None:
        """Publish once more what was recorded in shards hosted here since the times of these jobs (`republisher`)."""
        for shard, job in jobs.items():
            if self._owns(shard):
                for key, first in await schedules.recorded_since(self._db, [shard], job.since, job.namespace):
                    self._again[key] = min(first, self._again.get(key, first))
                    self._dropped.add(key)  # what is new comes behind it

    async def sweep(self, shards: Collection[int]) -> None:
        """Publish the tails of schedules whose events did not get out: of a dead node, dropped, or committed elsewhere."""
        stream = self._stream
        if stream is None:
            return
        await self.flush()
        for key, published in await schedules.unpublished(self._db, list(shards), _PAGE):
            if not stream.queued_of(key):
                await self.catch_up(key, max(published, self.known(key)))
        for key in [key for key in self._dropped if not stream.queued_of(key)]:
            await self.catch_up(key, self.known(key))

    async def catch_up(self, schedule_key: str, published: int) -> None:
        """Publish everything of a schedule that comes after `published`, a page of it at most."""
        stream = self._stream
        if stream is None or schedule_key in self._catching_up:
            return
        self._catching_up.add(schedule_key)
        try:
            found = await schedules.load(self._db, [schedule_key])
            if not found:
                self._dropped.discard(schedule_key)
                return
            stored = found[0]
            again = self._again.get(schedule_key)
            published = max(published, stored.published_sequence) if again is None else again - 1
            rows = await schedules.events(self._db, schedule_key, published, _PAGE if again is None else _MOST)
            # From here on nothing is awaited: a commit in between would find it dropped and leave its events to the next look.
            if again is not None and self._again.get(schedule_key) == again:
                del self._again[schedule_key]
            stream.resume(schedule_key)
            self._dropped.discard(schedule_key)
            self.publish(schedule_key, decode(stored.state, stored.definition), rows, published)
        finally:
            self._catching_up.discard(schedule_key)


def body_of(namespace: str, schedule_id: str, event: AuditEvent | AuditRow) -> bytes:
    """An audit event as subscribers get it: with the keys of a run's event, of which those of the run are null."""
    head = {
        "workflow_id": None,
        "run_id": None,
        "workflow_type": None,
        "schedule_id": schedule_id,
        "sequence": event.sequence,
        "id": event.event_id,
        "event_type": event.event_type,
        "namespace": namespace,
    }
    return b'%b,"payload":%b,%b' % (
        orjson.dumps(head)[:-1],
        event.payload,
        orjson.dumps(
            {
                "workflow_instance_id": event.workflow_instance_id,
                "workflow_run_id": event.workflow_run_id,
                "recorded_at": iso(event.recorded_at),
            }
        )[1:],
    )
