"""Hands the committed history events of this node's runs to the event stream (architecture, rule 8).

Only the owner of a run's shard publishes. How far a run is published stands in its row: written along with the run's next
commit, and for runs that stay quiet by a statement for many of them once in a while. After a loss of the stream's data runs are
published again from an earlier event on (`actors.publishing.republisher`); their marks stay, how far that is is known in memory
only.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence

import orjson

from actors.publishing.repetition import Repetition, first_since
from actors.run import ids
from actors.run.state import RunState, decode
from base.observability.metrics import EVENTS_WAITING, NO_METRICS, Metrics
from bus.events import EventStream
from bus.subjects import Subjects
from store import history, runs
from store.connections.pool import Database
from store.errors import StoreUnavailable

_log = logging.getLogger("dw.actors")

# A stored event begins {"id":"<26 characters>","event_type":"<name>", so its name can be cut out unparsed.
_TYPE_AT = len('{"id":"') + ids.ID_LENGTH + len('","event_type":"')


class Publisher:
    """What is published of which run."""

    def __init__(
        self, db: Database, subjects: Subjects, owns: Callable[[ids.RunKey], bool], metrics: Metrics = NO_METRICS
    ) -> None:
        self._db = db
        self._metrics = metrics
        self._subjects = subjects
        self._owns = owns
        self._stream: EventStream | None = None
        self._acked: dict[str, int] = {}
        self._dropped: set[str] = set()
        self._catching_up: set[str] = set()
        self.repetition = Repetition()

    def attach(self, stream: EventStream) -> None:
        """The stream to publish to; its callbacks are `acked` and `dropped`."""
        self._stream = stream

    def acked(self, run_id: str, sequence: int) -> None:
        """The stream has the run's events up to `sequence`."""
        self._acked[run_id] = sequence
        if self.repetition.jobs:
            self.repetition.acked(run_id, sequence)

    def dropped(self, run_id: str) -> None:
        """The stream's queue was full: this run's tail is published later, from the store."""
        self._dropped.add(run_id)

    def known(self, run_id: str) -> int:
        """How far the run is published, as far as not yet written to its row; 0 when the row knows best."""
        return self._acked.get(run_id, 0)

    def publish(self, state: RunState, lines: Sequence[bytes], published: int) -> None:
        """Publish what was just committed: `lines` are the newest events of the run, `published` is what its row says."""
        stream = self._stream
        if stream is None or not self._owns(state.run_key):
            return
        run_id = state.run_id
        first = state.last_sequence - len(lines) + 1
        if self.repetition.jobs and self.repetition.holds(run_id, state.namespace):
            if first > 1:
                self._dropped.add(run_id)
                return
            self.repetition.skip(run_id)  # it begins, so this is all of it
        if first - 1 > published and run_id not in self._dropped and not stream.follows(run_id, first):
            # Events from before this node had the run are not out yet: the sweep publishes all of them in order.
            self._dropped.add(run_id)
        if run_id in self._dropped:
            return
        head = self._head(state)
        for sequence, line in enumerate(lines, first):
            end = line.index(b'"', _TYPE_AT)
            subject = self._subjects.event(state.namespace, state.workflow_type, state.workflow_id, line[_TYPE_AT:end].decode())
            stream.publish(run_id, sequence, subject, b'%b"sequence":%d,%b' % (head, sequence, line[1:]))

    def _head(self, state: RunState) -> bytes:
        return b'{"workflow_id":"%b","run_id":"%b","workflow_type":%b,' % (
            state.workflow_id.encode(),
            state.run_id.encode(),
            orjson.dumps(state.workflow_type),
        )

    async def flush(self) -> None:
        """Write to the rows how far quiet runs are published. Done about once a second, so the lag is measured here, too."""
        if self._stream is not None:
            self._metrics.gauge(EVENTS_WAITING, self._stream.queued)
        if not self._acked:
            return
        acked, self._acked = self._acked, {}
        try:
            await runs.mark_published(self._db, list(acked.items()))
        except StoreUnavailable:
            for run_id, sequence in acked.items():
                self._acked.setdefault(run_id, sequence)

    async def sweep(self, shards: Iterable[int], older_than: int) -> None:
        """Publish the tails of runs whose events did not get out: lost with a dead node, dropped, or committed elsewhere.

        Runs that changed after `older_than` (microseconds) are left alone unless they were dropped.
        """
        stream = self._stream
        if stream is None:
            return
        await self.flush()
        found = await runs.unpublished(self._db, list(shards), older_than, 1000)
        for run_id, published, _ in found:
            if stream.queued_of(run_id):
                continue
            await self.catch_up(run_id, max(published, self.known(run_id)))
        await self.publish_dropped()

    async def publish_dropped(self) -> None:
        """Publish the tails of runs whose events did not fit in the queue, or had to wait for earlier ones."""
        stream = self._stream
        if stream is None:
            return
        for run_id in [run_id for run_id in self._dropped if not stream.queued_of(run_id)]:
            stored = await runs.load(self._db, run_id)
            if stored is None:
                self._dropped.discard(run_id)
            else:
                await self.catch_up(run_id, max(stored.row.published_sequence, self.known(run_id)))

    def waits_for_repetition(self, run_id: str) -> bool:
        """Whether a run of this node is to be published again and not done; one that was asked for by namespace is covered."""
        return self._owns(ids.key_in(run_id)) and self.repetition.is_open(run_id)

    def withdraw(self, shards: Collection[int]) -> None:
        """What waits of the runs of these shards comes behind what is published again."""
        stream, repetition = self._stream, self.repetition
        if stream is None:
            return
        withdrawn = []

        def covered(run_id: str) -> bool:
            if ids.shard_of_id(run_id) not in shards or repetition.job_of(run_id, None) is None:
                return False
            withdrawn.append(run_id)
            return True

        stream.discard_where(covered)
        self._dropped.update(withdrawn)

    async def catch_up(self, run_id: str, published: int) -> int:
        """Publish everything of a run that comes after `published`, and before that what is to be published again.

        Returns how many events were handed to the stream.
        """
        stream = self._stream
        if stream is None or run_id in self._catching_up:
            return 0
        self._catching_up.add(run_id)
        try:
            stored = await runs.load(self._db, run_id)
            if stored is None:
                self.repetition.skip(run_id)
                return 0
            state = decode(stored.row.state)
            job = self.repetition.job_of(run_id, state.namespace)
            reached = self.repetition.reached(run_id)
            if job is not None and reached is None:
                lines = await history.load(self._db, run_id, upto=state.last_sequence)
                published = min(published, first_since(lines, job.since) - 1)
                lines = lines[published:]
            else:
                published = published if job is None or reached is None else reached
                lines = await history.load(self._db, run_id, after=published, upto=state.last_sequence)
            # From here on nothing is awaited: a commit in between would find the run still dropped and leave its events to the
            # next look.
            stream.resume(run_id)
            self._dropped.discard(run_id)
            if job is not None and self._owns(state.run_key):
                self.repetition.begin(run_id, published, state.last_sequence)
            self.publish(state, lines, published)
            return len(lines)
        finally:
            self._catching_up.discard(run_id)
