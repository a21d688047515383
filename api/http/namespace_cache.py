"""Which namespaces exist, remembered for seconds, so that requests need not ask Postgres."""

from __future__ import annotations

import time

from actors.payload_storage.location import Policy
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
        self._policies: dict[str, Policy | None] = {}

    def known(self, name: str) -> bool:
        """True when the namespace is known to exist, without asking; False means: ask `exists`."""
        return self._known.get(name, 0.0) > time.monotonic()

    async def exists(self, name: str) -> bool:
        """Whether the namespace exists. Raises StoreUnavailable when nobody can say."""
        now = time.monotonic()
        if "\x00" in name or self._unknown.get(name, 0.0) > now:
            return False
        namespace = await namespaces.get(self._db, name)
        if namespace is not None:
            self._known[name] = now + _KNOWN_SECONDS
            self._policies[name] = Policy.of(namespace.external_payload_storage)
            self._unknown.pop(name, None)
            return True
        self._known.pop(name, None)
        self._policies.pop(name, None)
        if len(self._unknown) >= _MAX_UNKNOWN:
            self._unknown.clear()
        self._unknown[name] = now + _UNKNOWN_SECONDS
        return False

    def policy(self, name: str) -> Policy | None:
        """How a known namespace stores payloads outside, as it was when it was last read; None for not at all."""
        return self._policies.get(name)

    def forget(self, name: str) -> None:
        """Ask again for this name (it was created or removed)."""
        self._known.pop(name, None)
        self._unknown.pop(name, None)
