"""What the log says of a database that is away: one line when that begins, one when it ends."""

from __future__ import annotations

import logging

from base.observability.actions import said

_log = logging.getLogger("dw.store")


class Outage:
    """Each part of a node that needs the database tells for itself, under a name of its own; it is away until all reach it."""

    def __init__(self) -> None:
        self._missed_by: set[str] = set()

    def began(self, part: str, why: object) -> None:
        """This part does not reach the database."""
        if not self._missed_by:
            _log.warning("Postgres does not answer: %s", str(why) or type(why).__name__, extra=said("database.away"))
        self._missed_by.add(part)

    def ended(self, part: str) -> None:
        """This part reaches it; nothing when it did before."""
        if part in self._missed_by:
            self._missed_by.discard(part)
            if not self._missed_by:
                _log.warning("Postgres answers again", extra=said("database.back"))
