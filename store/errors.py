"""What can go wrong below the store, in words the layers above may know. No driver exception leaves this package."""

from __future__ import annotations

import asyncpg


class StoreError(Exception):
    """Base of every error the store raises."""


class StoreUnavailable(StoreError):
    """The database is away, too slow or refuses work now; the outcome of a write is unknown: reload before going on."""


class StoreBusy(StoreUnavailable):
    """So many statements run and wait already that this one was not even sent."""


class StoreTooSlow(StoreUnavailable):
    """The statement took longer than it may and was ended by the database: nothing of it is stored."""


class WritesRefused(StoreUnavailable):
    """The database answers, but takes no writes just now (disk full, read-only): nothing of this one is stored."""


class StoreRejected(StoreError):
    """The database refused this statement for good (bad data, such as a NUL character in a text): nothing of it is stored."""


class SchemaUnfit(StoreError):
    """The schema is not one this program can run on; the message says what was found and what to do."""


# SQLSTATE classes and codes that say something about the server or the moment, not about the statement.
_AWAY_CLASSES = frozenset({"08", "53", "57", "58", "XX", "F0"})
# The last one, no such table: the schema is not there, or removed under us (`store.schema` tells).
_AWAY_CODES = frozenset({"40001", "40003", "40P01", "55P03", "42P01"})
_READ_ONLY = "25006"  # a primary that became a standby: another connection may find the new primary
_NO_WRITES = frozenset({"53100", "58030", _READ_ONLY})  # disk full, input/output error
_CANCELED = "57014"


def translate(error: BaseException) -> StoreError:
    """The error of this package that stands for a driver or network error."""
    if isinstance(error, StoreError):
        return error
    text = f"{type(error).__name__}: {error}"
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        if code == _CANCELED:
            return StoreTooSlow(text)
        if code in _NO_WRITES:
            return WritesRefused(text)
        away = code[:2] in _AWAY_CLASSES or code in _AWAY_CODES
        return StoreUnavailable(text) if away else StoreRejected(text)
    if isinstance(error, asyncpg.InterfaceError):
        # The driver raises one class both for arguments it cannot encode and for a connection that is no longer usable.
        return StoreRejected(text) if isinstance(error, ValueError) else StoreUnavailable(text)
    if isinstance(error, (OSError, EOFError, asyncpg.InternalClientError)):
        return StoreUnavailable(text)
    return StoreRejected(text)


def breaks_connection(error: BaseException) -> bool:
    """True when the connection that raised this must not be used again."""
    if isinstance(error, asyncpg.PostgresError):
        code = error.sqlstate or ""
        return code[:2] == "08" or code.startswith("57P") or code == _READ_ONLY
    if isinstance(error, asyncpg.InterfaceError):
        return not isinstance(error, ValueError)
    return isinstance(error, (OSError, EOFError, asyncpg.InternalClientError))


def is_unique_violation(error: BaseException) -> bool:
    return isinstance(error, asyncpg.UniqueViolationError)


def is_place_taken(error: BaseException) -> bool:
    """Two nodes took the same place under a cap at once, and this statement came second."""
    return isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name == "admission_permits_pkey"


def is_transient_conflict(error: BaseException) -> bool:
    """A deadlock or serialization failure: the statement was rolled back and may succeed when sent again."""
    return isinstance(error, (asyncpg.DeadlockDetectedError, asyncpg.SerializationError))


# Everything the driver or the network can raise from a statement (a TimeoutError is an OSError).
DRIVER_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, EOFError)
