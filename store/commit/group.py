"""Group commit: the transitions of many runs become durable in one statement (architecture, rules 1 to 3).

While one statement is in flight the next batch gathers. After a statement with several writes, thus under load, the next one
waits a millisecond for more company: a statement costs more than a write in it. A write that comes alone never waits.
A write whose version no longer matches is told so and stores nothing, and does not touch the others of its batch.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import asyncpg

from base.observability.actions import said
from base.observability.metrics import COMMIT_SECONDS, COMMITS, LOST, NO_METRICS, STORED, Metrics
from base.service import Service
from store.commit import arguments, schedule_writes
from store.commit.schedule_writes import ScheduleWrite
from store.commit.writes import WriteSet
from store.connections import sockets
from store.connections.outage import Outage
from store.connections.pool import PLANNER
from store.errors import (
    DRIVER_ERRORS,
    StoreError,
    StoreRejected,
    StoreUnavailable,
    WritesRefused,
    breaks_connection,
    is_place_taken,
    is_transient_conflict,
    is_unique_violation,
    translate,
)

log = logging.getLogger("dw.store")

W = TypeVar("W")
_Entry = tuple[W, "asyncio.Future[bool]"]

_FIRST_BACKOFF_SECONDS = 0.05
_LAST_BACKOFF_SECONDS = 0.5
_CONNECT_SECONDS = 3.0
_CONFLICT_ATTEMPTS = 3
_GATHER_SECONDS = 0.001
_ENOUGH = 16  # so many writes wait for no more

# One plan per statement, made once, that never reads a whole table however small it was when the plan was made.
SESSION = {
    "application_name": "durable-workflow-commit",
    **PLANNER,
    "plan_cache_mode": "force_generic_plan",
    "synchronous_commit": "on",
    **sockets.SESSION,
}


class Commits(Service, Generic[W]):
    """Commits writes of one form on one dedicated connection, which it opens again by itself when it is lost.

    `max_batch`: writes per statement; `max_bytes`: of states and history, after which a statement takes no further write.
    `timeout_seconds`: how long one statement may take before its outcome counts as unknown. `outage` hears of lost connections.
    """

    part = "commits"  # what an outage knows it as

    def __init__(
        self,
        dsn: str,
        *,
        max_batch: int = 256,
        max_bytes: int = 4 * 1024 * 1024,
        timeout_seconds: float = 10.0,
        outage: Outage | None = None,
        metrics: Metrics = NO_METRICS,
    ) -> None:
        super().__init__()
        self._dsn = dsn
        self._outage = outage or Outage()
        self._metrics = metrics
        self._max_batch = max_batch
        self._max_bytes = max_bytes
        self._timeout = timeout_seconds
        self._waiting: deque[_Entry[W]] = deque()
        self._wake: asyncio.Future[None] | None = None
        self._connection: Any = None
        self._statements: dict[str, Any] = {}
        self._runner: asyncio.Task[None] | None = None
        self._available = False
        self._closing = False  # what was handed in is still committed
        self.batches = 0
        self.writes = 0
        self.stored_at = 0.0  # monotonic time of the last statement that went through
        self.refused = (0.0, "")  # that of the last one refused because the database takes no writes, and its words

    # -- the form of the writes ----------------------------------------------------------------------------------------

    @abstractmethod
    def _check(self, write: W) -> None:
        """Raise `ValueError` for a malformed write."""

    @abstractmethod
    def _encode(self, writes: list[W]) -> tuple[str, list[Sequence[object]]]:
        """The statement for a batch, and its arguments."""

    @abstractmethod
    def _size(self, write: W) -> int:
        """Bytes it writes."""

    @abstractmethod
    def _name(self, write: W) -> tuple[str, str]:
        """What it is a write of, `run` or another word, and the id of that."""

    # -- the service ---------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Connect and begin. Raises `StoreUnavailable` when the database cannot be reached now."""
        self._closing = False
        await self._connect()
        self._runner = self._spawn(self._run(), name="group-commit")

    async def _stop(self) -> None:
        """Commit what was handed in so far, then close. Later writes are refused with `StoreUnavailable`."""
        self._closing = True
        runner, self._runner = self._runner, None
        if runner is not None:
            self._rouse()
            try:
                await asyncio.wait_for(runner, self._timeout + _CONNECT_SECONDS)
            except TimeoutError:
                log.warning("the last group commit did not end in time", extra=said("commit.unfinished"))

    async def _stopped(self) -> None:
        self._available = False
        self._fail_waiting("the store is stopping")
        self._disconnect()

    @property
    def available(self) -> bool:
        """False while the database is known to be away."""
        return self._available

    @property
    def queued(self) -> int:
        """How many writes wait for the next statement."""
        return len(self._waiting)

    def commit(self, write: W) -> asyncio.Future[bool]:
        """Hand in one write; the future tells when its outcome is known.

        Result True: everything in it is durable. False: nothing of it is stored, because the run's version was not
        `expected_version`, the workflow id was taken, the run number did not follow, a message in `received` or a command in
        `applied` had been applied already, a request id was taken, or somebody has a place of `permits` (look which of
        them). Errors: `StoreUnavailable` (outcome unknown, or database away: reload),
        `StoreRejected` (the data itself is refused, nothing stored). Raises `ValueError` at once for a malformed write.
        Cancelling the future does not take the write back.
        """
        self._check(write)
        future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        if not self._available or self._closing:
            future.set_exception(StoreUnavailable("the database is not reachable"))
            return future
        self._waiting.append((write, future))
        if self._wake is not None:
            self._rouse()
        return future

    def give_up(self) -> None:
        """The database is known not to answer: what waits for it fails now, and later writes until it is reached again."""
        self._available = False
        self._fail_waiting("the database does not answer")
        self._disconnect()
        self._rouse()

    # -- the one task ------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting or not self._closing:
            if self._connection is None or self._connection.is_closed():
                await self._reconnect()
            elif not self._waiting:
                self._wake = loop.create_future()
                await self._wake
            else:
                entries = self._take()
                try:
                    await self._flush(entries)
                finally:
                    _fail(entries, "the commit was abandoned")
                if len(entries) > 1 and len(self._waiting) < _ENOUGH:
                    await asyncio.sleep(_GATHER_SECONDS)

    def _take(self) -> list[_Entry[W]]:
        """The next batch: what waits, up to the limits. At least one write, however big."""
        entries: list[_Entry[W]] = []
        size = 0
        while self._waiting and len(entries) < self._max_batch and size < self._max_bytes:
            entry = self._waiting.popleft()
            entries.append(entry)
            size += self._size(entry[0])
        return entries

    def _rouse(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None and not wake.done():
            wake.set_result(None)

    async def _flush(self, entries: list[_Entry[W]]) -> None:
        began = time.monotonic()
        try:
            won = await self._execute([write for write, _ in entries])
        except Exception as error:
            await self._after_error(entries, error)
            return
        self.batches += 1
        self.writes += len(entries)
        self.stored_at = time.monotonic()
        self._metrics.observe(COMMIT_SECONDS, self.stored_at - began)
        self._metrics.count(COMMITS, STORED, len(won))
        if len(won) != len(entries):
            self._metrics.count(COMMITS, LOST, len(entries) - len(won))
        if len(won) == len(entries):
            for _, future in entries:
                if not future.done():
                    future.set_result(True)
            return
        winners = set(won)
        for i, (_, future) in enumerate(entries):
            if not future.done():
                future.set_result(i in winners)

    async def _execute(self, writes: list[W]) -> list[int]:
        sql, args = self._encode(writes)
        prepared = self._statements.get(sql)
        if prepared is None:
            prepared = self._statements[sql] = await self._connection.prepare(sql, timeout=self._timeout)
        # The server gives up first, so that its refusal, which is certain, comes before our own timeout, which is not.
        won: list[int] = await prepared.fetchval(*args, timeout=self._timeout + 1.0)
        return won

    async def _after_error(self, entries: list[_Entry[W]], error: Exception) -> None:
        """The statement stored nothing, or its outcome is unknown: settle each of its writes.

        An error that is about data is about one of the writes, so each is sent alone.
        """
        failure = translate(error)
        refused = isinstance(failure, WritesRefused)
        if refused:
            self.refused = (time.monotonic(), str(failure))
        if breaks_connection(error):
            if not refused:  # that is told by `store.commit.write_watch`, once
                self._outage.began(self.part, failure)
            self._disconnect()
        if isinstance(failure, StoreUnavailable) and not is_transient_conflict(error):
            _fail(entries, str(failure))
            return
        for entry in entries:
            if self._connection is None:
                _fail(entries, "the connection was lost while the batch was sent again")
                return
            await self._alone(entry, error)

    async def _alone(self, entry: _Entry[W], error: Exception) -> None:
        """Send one write by itself, after the statement it was part of failed with `error`."""
        write, future = entry
        last: Exception = error
        for _ in range(_CONFLICT_ATTEMPTS):
            try:
                won = await self._execute([write])
            except Exception as again:
                last = again
                if breaks_connection(again):
                    self._disconnect()
                    break
                if is_transient_conflict(again):
                    continue
                break
            self._metrics.count(COMMITS, STORED if won else LOST)
            if not future.done():
                future.set_result(bool(won))
            return
        if future.done():
            return
        if is_unique_violation(last):
            if is_place_taken(last):  # another node took it while this was sent: as if the statement had seen that
                future.set_result(False)
                return
            kind, name = self._name(write)
            extra = said("commit.conflict", run_id=name)
            log.warning("a write of %s %s violates a unique key: %s", kind, name, last, extra=extra)
            future.set_result(False)
            return
        failure = translate(last)
        if isinstance(failure, StoreRejected):
            kind, name = self._name(write)
            extra = said("commit.refused", run_id=name)
            log.error("a write of %s %s was refused: %s", kind, name, last, extra=extra)
        future.set_exception(failure)

    # -- connection ----------------------------------------------------------------------------------------------------

    async def _connect(self) -> None:
        settings = {**SESSION, "statement_timeout": str(int(self._timeout * 1000))}
        try:
            connection = await asyncpg.connect(self._dsn, timeout=_CONNECT_SECONDS, server_settings=settings)
        except Exception as error:  # whatever it is, the task that commits must survive it and try again
            raise translate(error) from error
        await sockets.watch(connection)
        self._statements = {}
        self._connection = connection
        connection.add_termination_listener(self._on_terminated)
        self._available = True
        self._outage.ended(self.part)

    def _on_terminated(self, _connection: object) -> None:
        """Wake the task, which connects again."""
        self._rouse()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        self._statements = {}
        if connection is not None and not connection.is_closed():
            with contextlib.suppress(*DRIVER_ERRORS):
                connection.terminate()

    async def _reconnect(self) -> None:
        """Connect again. What waits is kept for the first attempt only; while the database is away, writes fail at once."""
        backoff = _FIRST_BACKOFF_SECONDS
        self._disconnect()
        while True:
            try:
                await self._connect()
            except StoreError as error:  # refused, too: a database that is being restored may be there again
                self._outage.began(self.part, error)
                self._available = False
                self._fail_waiting(str(error))
                if self._closing:
                    return
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, _LAST_BACKOFF_SECONDS)
            else:
                return

    def _fail_waiting(self, reason: str) -> None:
        entries = list(self._waiting)
        self._waiting.clear()
        _fail(entries, reason)


class GroupCommit(Commits[WriteSet]):
    """Commits the `WriteSet`s of runs."""

    def _check(self, write: WriteSet) -> None:
        arguments.check(write)

    def _encode(self, writes: list[WriteSet]) -> tuple[str, list[Sequence[object]]]:
        return arguments.encode(writes)

    def _size(self, write: WriteSet) -> int:
        return len(write.row.state) + len(write.history)

    def _name(self, write: WriteSet) -> tuple[str, str]:
        return "run", write.run_id


class ScheduleCommit(Commits[ScheduleWrite]):
    """Commits the `ScheduleWrite`s of schedules: in batches of their own, so that those of runs stay as they are."""

    part = "schedule commits"

    def _check(self, write: ScheduleWrite) -> None:
        schedule_writes.check(write)

    def _encode(self, writes: list[ScheduleWrite]) -> tuple[str, list[Sequence[object]]]:
        return schedule_writes.encode(writes)

    def _size(self, write: ScheduleWrite) -> int:
        return write.size

    def _name(self, write: ScheduleWrite) -> tuple[str, str]:
        return "schedule", write.schedule_key


def _fail(entries: list[_Entry[W]], reason: str) -> None:
    """Tell every write that is not settled yet that its outcome is unknown."""
    for _, future in entries:
        if not future.done():
            future.set_exception(StoreUnavailable(reason))
