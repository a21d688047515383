"""GET .../history/export: the whole run as one verifiable document, sent while it is read (control-plane 6.2, operations 9)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from actors.export.bundle import Bundle
from actors.export.canonical import Seal, read
from actors.export.facts import RunFacts
from actors.run import state as run_state
from api.control.workflows.lookup import named_run
from api.http.request import Request
from api.http.response import Response
from store import history as stored_history
from store.connections.pool import Database

_MOST_EVENTS = 50
_PAGE_BYTES = 128 << 10  # read and made into text at once, so that others wait a few milliseconds


async def export(request: Request) -> Response:
    """GET /api/workflows/{workflow_id}/runs/{run_id}/history/export: open and closed runs, as stored at this moment."""
    run, instance = await named_run(request)
    services = request.services
    settings = services.settings
    facts = RunFacts(
        state=run_state.decode(run.row.state),
        rules=settings.rules,
        memo=read(run.identity.memo)[0],
        search_attributes=read(run.identity.search_attributes)[0],
        current_run_id=instance.current_run_id,
        at=services.clock.now(),
    )
    bundle = Bundle(facts, Seal(settings.export_key, settings.export_key_id))
    return Response(200, _pieces(services.db, bundle, facts))


async def _pieces(db: Database, bundle: Bundle, facts: RunFacts) -> AsyncGenerator[bytes, None]:
    try:
        yield bundle.head()
        state = facts.state
        average = state.history_bytes // max(1, state.last_sequence)
        size = max(1, min(_MOST_EVENTS, _PAGE_BYTES // max(1, average)))
        after = 0
        while after < state.last_sequence:
            lines = await stored_history.load(db, state.run_id, after, min(after + size, state.last_sequence))
            if not lines:
                break  # its history was pruned
            yield bundle.events(lines)
            after += len(lines)
        for piece in bundle.tail():
            if piece:
                yield piece
            await asyncio.sleep(0)
    finally:
        bundle.close()
