"""The defined types of search attributes, remembered for seconds, so that starts and searches need not ask Postgres."""

from __future__ import annotations

import time
from collections.abc import Mapping

from store import search_attributes
from store.connections.pool import Database

_KNOWN_SECONDS = 5.0


class AttributeTypes:
    """The custom attributes of each namespace. A definition made or removed by another node is noticed within seconds."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._known: dict[str, tuple[float, Mapping[str, str]]] = {}
        self._forgotten = 0

    async def of(self, namespace: str) -> Mapping[str, str]:
        """Name to type. `namespace` exists. Raises StoreUnavailable when nobody can say."""
        until, found = self._known.get(namespace, (0.0, {}))
        if until <= time.monotonic():
            asked_at = self._forgotten
            found = await search_attributes.definitions(self._db, namespace)
            if asked_at == self._forgotten:
                self._known[namespace] = time.monotonic() + _KNOWN_SECONDS, found
        return found

    def forget(self, namespace: str) -> None:
        """Ask again for this namespace (a definition was made or removed)."""
        self._forgotten += 1
        self._known.pop(namespace, None)
