"""Opens the API when the schema can be served, and closes it while it can not (configuration-and-security 8.2, 10.6)."""

from __future__ import annotations

import asyncio
import logging

from api.http.services import Services
from base.observability.actions import said
from base.service import Service
from store import schema
from store.errors import SchemaUnfit, StoreError

log = logging.getLogger("dw.node")

LOOK_SECONDS = 5.0


class SchemaWatch(Service):
    """Looks at the schema before the node starts and from then on, as it may be changed under a node that runs."""

    def __init__(self, services: Services) -> None:
        super().__init__()
        self._services = services

    async def _start(self) -> None:
        """Raises `SchemaUnfit` while the schema can not be served, `StoreUnavailable` when it can not be read."""
        found = await self._look()
        if found.fault is not None:
            raise SchemaUnfit(found.fault)
        log.info("%s", found.said, extra=said("schema.found"))
        self._spawn(self._watch(), name="schema")

    async def _look(self) -> schema.Schema:
        found = await schema.look(self._services.probes)
        self._services.unfit = found.fault
        return found

    async def _watch(self) -> None:
        told: str | None = None
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                fault = (await self._look()).fault
            except StoreError:
                continue  # an absent database says nothing about its schema
            if fault != told:
                if fault is None:
                    log.warning("the schema can be served again", extra=said("schema.fit"))
                else:
                    log.error("requests are refused: %s", fault, extra=said("schema.unfit"))
            told = fault
