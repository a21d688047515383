"""Whether the database takes writes: it may answer every read while its disk is full, or while it is read-only."""

from __future__ import annotations

import asyncio
import logging
import time

from base.observability.actions import said
from base.service import Service
from store.commit.group import GroupCommit
from store.connections.pool import Database
from store.errors import StoreError, StoreRejected, WritesRefused

log = logging.getLogger("dw.store")

_TICK_SECONDS = 1.0
_FRESH_SECONDS = 5.0  # a commit or a probe so long ago still tells
_RECHECK_SECONDS = 2.0  # after a refusal
_FORGET_SECONDS = 10.0  # where the probe may not be made, a refusal counts for so long

# Needs new room on the disk each time, 128 KB of it, and leaves nothing behind: a truncated table begins a new file, which is
# removed with the sub-transaction. One statement, so that a node that freezes cannot hold the lock of the table.
_PROBE = """
DO $$
BEGIN
    TRUNCATE write_probe;
    INSERT INTO write_probe SELECT repeat('x', 6000) FROM generate_series(1, 16);
    RAISE SQLSTATE 'DW000';
EXCEPTION WHEN SQLSTATE 'DW000' THEN
    NULL;
END
$$
"""


class WriteWatch(Service):
    """Learns from commits, and from a probe while there are none, whether writes work. Logs when that changes."""

    def __init__(self, db: Database, commits: GroupCommit) -> None:
        super().__init__()
        self._db = db
        self._commits = commits
        self._fault: str | None = None
        self._since = 0.0
        self._looked = 0.0  # when a probe last told something

    @property
    def fault(self) -> str | None:
        """Why the database takes no writes (the name of an error, nothing secret); None as long as nothing else is known."""
        return self._fault

    async def _start(self) -> None:
        self._spawn(self._run(), name="write-watch")

    async def _run(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(_TICK_SECONDS)

    async def look(self) -> None:
        """Bring `fault` up to date, asking the database if need be."""
        now, commits = time.monotonic(), self._commits
        refused_at, refusal = commits.refused
        if refused_at > self._looked:
            # A later commit that was stored may have found room that was there already: only a probe ends this.
            self._begin(refusal)
            if now - refused_at >= _RECHECK_SECONDS:
                await self._probe()
        elif self._fault is not None or max(commits.stored_at, self._looked) <= now - _FRESH_SECONDS:
            await self._probe()

    async def _probe(self) -> None:
        try:
            await self._db.execute(_PROBE)
        except WritesRefused as error:
            self._looked = time.monotonic()
            self._begin(str(error))
        except StoreRejected:  # no right to, or no schema yet
            if self._commits.refused[0] < time.monotonic() - _FORGET_SECONDS:
                self._looked = time.monotonic()
                self._end()
        except StoreError:
            pass  # away or slow: others tell
        else:
            self._looked = time.monotonic()
            self._end()

    def _begin(self, reason: str) -> None:
        if self._fault is None:
            self._since = time.monotonic()
            self._fault = reason.partition(":")[0]
            log.warning("the database takes no writes: %s", " ".join(reason.split()), extra=said("database.read_only"))

    def _end(self) -> None:
        if self._fault is not None:
            self._fault = None
            log.warning(
                "the database takes writes again after %.0f s",
                time.monotonic() - self._since,
                extra=said("database.writable", seconds=round(time.monotonic() - self._since)),
            )
