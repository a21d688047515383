"""A pool of database connections. A node has several, so that no kind of work waits for another (`pools`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Protocol, cast

import asyncpg

from store.connections import sockets
from store.errors import DRIVER_ERRORS, StoreBusy, StoreUnavailable, translate


class Row(Protocol):
    """A row of a result, read by column name or position."""

    def __getitem__(self, key: str | int, /) -> Any: ...

    def __iter__(self) -> Iterator[Any]: ...


_CLOSE_SECONDS = 2.0
_RELEASE_SECONDS = 2.0  # a connection that cannot be given back by then (its statement does not end) is dropped
_GRACE_SECONDS = 1.0

# Prepared statements keep plans made when the tables were small. These settings make the look-ups of this package use their
# index from the first day; a statement that has to read a whole table still can.
PLANNER = {"enable_seqscan": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "jit": "off"}


async def _reset(connection: Any) -> None:
    """Between two users of a connection: nothing here leaves traces in a session, save a transaction that was torn off."""
    if connection.is_in_transaction():
        await connection.reset()


class Database:
    """Postgres behind `dsn`. Works again by itself after Postgres restarts.

    Every statement raises `StoreUnavailable` when the database is away or slower than `timeout_seconds` (a write may then
    have been applied or not), and `StoreRejected` when it refuses the statement.
    """

    def __init__(
        self,
        dsn: str,
        *,
        size: int = 8,
        timeout_seconds: float = 10.0,
        queue: int | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        """`size`: connections; `timeout_seconds`: how long one may be waited for, and how long a statement may take.

        `queue`: how many may wait for a connection; one more, and one that waited in vain, is refused with `StoreBusy`.
        None: any number. `settings`: of the sessions, besides those of this module.
        """
        self.dsn = dsn
        self._size = size
        self._timeout = timeout_seconds
        self._most = None if queue is None else size + queue
        self._users = 0
        self._settings = dict(settings or {})
        self._pool: Any = None
        self._in_use: set[Any] = set()
        self._given_up = False

    async def start(self) -> None:
        """Open the first connection; nothing when started. Raises `StoreUnavailable` when there is none to be had."""
        if self._pool is not None:
            return
        try:
            # No least size: keeping one up while the database is away is of no use, and loud.
            pool = await asyncpg.create_pool(
                self.dsn,
                min_size=0,
                max_size=self._size,
                timeout=self._timeout,
                # The server gives up first, so that its refusal, which is certain, comes before ours, which is not.
                command_timeout=self._timeout + _GRACE_SECONDS,
                init=sockets.watch,
                reset=_reset,
                server_settings=self._session(),
            )
            try:
                async with pool.acquire(timeout=self._timeout):
                    self._pool = pool
            finally:
                if self._pool is not pool:
                    pool.terminate()
        except DRIVER_ERRORS as error:
            raise translate(error) from error

    def _session(self) -> dict[str, str]:
        return {
            "application_name": "durable-workflow",
            "statement_timeout": str(int(self._timeout * 1000)),
            **PLANNER,
            **sockets.SESSION,
            **self._settings,
        }

    async def stop(self) -> None:
        """Close all connections; statements still in flight after two seconds are cut off."""
        pool, self._pool = self._pool, None
        if pool is None:
            return
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await pool.close()
        except DRIVER_ERRORS:
            pool.terminate()

    def give_up(self) -> None:
        """The database is known not to answer: what waits for it fails now, and until `trust` everything does at once."""
        self._given_up = True
        for connection in list(self._in_use):
            connection.terminate()

    def trust(self) -> None:
        """It answers (again)."""
        self._given_up = False

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[Any]:
        """One connection, for several statements; the driver's errors inside the block are translated, all others pass."""
        pool = self._pool
        if pool is None:
            raise StoreUnavailable("the database is not started")
        if self._given_up:
            raise StoreUnavailable("the database does not answer")
        if self._most is not None and self._users >= self._most:
            raise StoreBusy("too many statements wait for a connection")
        self._users += 1
        try:
            try:
                connection = await pool.acquire(timeout=self._timeout)
            except DRIVER_ERRORS as error:
                if isinstance(error, TimeoutError) and self._most is not None and self._users > self._size:
                    raise StoreBusy("no connection became free in time") from error
                raise translate(error) from error
            self._in_use.add(connection)
            try:
                yield connection
            except DRIVER_ERRORS as error:
                raise translate(error) from error
            finally:
                self._in_use.discard(connection)
                with contextlib.suppress(*DRIVER_ERRORS):  # the pool itself drops a connection it cannot reset
                    await pool.release(connection, timeout=_RELEASE_SECONDS)
        finally:
            self._users -= 1

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        """One connection inside a transaction, committed when the block ends without an exception."""
        async with self.connection() as connection, connection.transaction():
            yield connection

    async def fetch(self, sql: str, *args: object) -> list[Row]:
        async with self.connection() as connection:
            return cast("list[Row]", await connection.fetch(sql, *args))

    async def fetch_apart(self, sql: str, *args: object) -> list[Row]:
        """Like `fetch`, on a connection made for this statement alone: when those that are there hang."""
        try:
            connection = await asyncpg.connect(
                self.dsn, timeout=self._timeout, command_timeout=self._timeout, server_settings=self._session()
            )
            try:
                return cast("list[Row]", await connection.fetch(sql, *args))
            finally:
                connection.terminate()
        except DRIVER_ERRORS as error:
            raise translate(error) from error

    async def fetchrow(self, sql: str, *args: object) -> Row | None:
        async with self.connection() as connection:
            return cast("Row | None", await connection.fetchrow(sql, *args))

    async def fetchval(self, sql: str, *args: object) -> Any:
        async with self.connection() as connection:
            return await connection.fetchval(sql, *args)

    async def execute(self, sql: str, *args: object) -> int:
        """Run a statement; the number of rows it touched."""
        async with self.connection() as connection:
            return rows_touched(await connection.execute(sql, *args))


def rows_touched(tag: str) -> int:
    """The count at the end of a command tag such as `UPDATE 3` or `INSERT 0 1`; 0 when it has none."""
    last = tag.rpartition(" ")[2]
    return int(last) if last.isdigit() else 0
