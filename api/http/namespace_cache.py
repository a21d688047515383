"""Which namespaces exist, remembered for seconds, so that requests need not ask Postgres."""

from __future__ import annotations

import time

from store import namespaces
from store.connections.pool import Database

_KNOWN_SECONDS = 5.0
_UNKNOWN_SECONDS = 0.5
_MAX_UNKNOWN = 10_000


class NamespaceCache:
    """Answers whether a namespace exists. A namespace made or removed elsewhere is noticed within seconds."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[str, float] = {}
        self._unknown: dict[str, float] = {}

    def known(self, name: str) -> bool:
        """True when the namespace is known to exist, without asking; False means: ask `exists`."""
        return self._known.get(name, 0.0) > time.monotonic()

    async def exists(self, name: str) -> bool:
        """Whether the namespace exists. Raises StoreUnavailable when nobody can say."""
        now = time.monotonic()
        if "\x00" in name or self._unknown.get(name, 0.0) > now:
            return False
        if await namespaces.get(self._db, name) is not None:
            self._known[name] = now + _KNOWN_SECONDS
            self._unknown.pop(name, None)
            return True
        self._known.pop(name, None)
        if len(self._unknown) >= _MAX_UNKNOWN:
            self._unknown.clear()
        self._unknown[name] = now + _UNKNOWN_SECONDS
        return False

    def forget(self, name: str) -> None:
        """Ask again for this name (it was created or removed)."""
        self._known.pop(name, None)
        self._unknown.pop(name, None)
