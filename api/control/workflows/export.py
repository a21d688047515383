"""GET .../history/export: the whole run as one verifiable document, sent while it is read (control-plane 6.2, operations 9)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator

from actors.export.bundle import Bundle
from actors.export.canonical import Seal, read
from actors.export.facts import RunFacts
from actors.run import state as run_state
from api.control.workflows.lookup import named_run
from api.http.request import Request
from api.http.response import Response
from store import history as stored_history
from store.connections.pool import Database

_READ_BYTES = 512 << 10
_CHUNK_EVENTS = 50
_CHUNK_BYTES = 128 << 10


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
        after = 0
        while after < state.last_sequence:
            lines = await stored_history.batches(db, state.run_id, after, _READ_BYTES)
            if not lines:
                break  # its history was pruned
            lines = lines[: state.last_sequence - after]  # what was recorded since is another bundle's
            after += len(lines)
            for chunk in _chunks(lines):
                yield bundle.events(chunk)
                await asyncio.sleep(0)
        for piece in bundle.tail():
            if piece:
                yield piece
            await asyncio.sleep(0)
    finally:
        bundle.close()


def _chunks(lines: list[bytes]) -> Iterator[list[bytes]]:
    """As many events at once as cost the others a few milliseconds."""
    chunk: list[bytes] = []
    size = 0
    for line in lines:
        chunk.append(line)
        size += len(line)
        if size >= _CHUNK_BYTES or len(chunk) >= _CHUNK_EVENTS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
