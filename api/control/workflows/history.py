"""The history of a run, whole or in pages, and the wait for what comes next (control-plane 6.1)."""

from __future__ import annotations

import asyncio

from actors.run.views.status_buckets import is_terminal
from api.control.workflows.events import shown
from api.control.workflows.lookup import run_not_found
from api.http import page_tokens
from api.http.input.fields import Fields
from api.http.request import Request
from api.http.response import Response
from store import history as stored_history
from store.upkeep import bare_runs

_WHOLE_HISTORY = 10_000
_DEFAULT_PAGE = 100
# how often a waiting reader looks by itself: at a run hosted here (for a shutdown, a moving shard), at one hosted elsewhere
_STEP_SECONDS = 2.0
_ELSEWHERE_STEP_SECONDS = 0.25


async def history(request: Request) -> Response:
    """GET /api/workflows/{workflow_id}/runs/{run_id}/history: the whole history, or pages."""
    fields = Fields(dict(request.query()))
    size = fields.integer("page_size", low=1, high=1000)
    wait = fields.boolean("wait_new_event")
    fields.check()
    token = fields.data.get("next_page_token") or ""
    if size is None:
        size = _DEFAULT_PAGE if token else _WHOLE_HISTORY
    after = page_tokens.decode(token) or 0
    found = await _page(request, after, size)
    if wait and after >= found.last_sequence and not is_terminal(found.status):
        await _wait_for_event(request, request.path["run_id"], after)
        found = await _page(request, after, size)
    last = after + len(found.events)
    body = {
        "workflow_id": found.workflow_id,
        "run_id": request.path["run_id"],
        "events": [shown(sequence, line) for sequence, line in enumerate(found.events, after + 1)],
        "next_page_token": page_tokens.encode(last) if found.events and last < found.last_sequence else None,
    }
    return Response(200, body)


async def _page(request: Request, after: int, size: int) -> stored_history.Page:
    found = await stored_history.page(request.services.db, request.path["run_id"], after, size)
    if found is None and (bare := await bare_runs.get(request.services.db, request.path["run_id"])) is not None:
        found = stored_history.Page(bare.namespace, bare.workflow_id, bare.status, 0, [])
    if found is None or found.namespace != request.namespace or found.workflow_id != request.path["workflow_id"]:
        raise run_not_found(request)
    return found


async def _wait_for_event(request: Request, run_id: str, after: int) -> None:
    """Return once an event lies behind `after`, or when the long-poll time is over."""
    services = request.services
    deadline = asyncio.get_running_loop().time() + services.settings.poll_timeout_seconds
    while True:
        # Watched before it is looked at, so that nothing in between is missed.
        watch = services.engine.watch_run(run_id)
        try:
            total = await stored_history.total(services.db, run_id)
            left = deadline - asyncio.get_running_loop().time()
            if total > after or left <= 0 or services.draining:
                return
            if watch is None:
                await asyncio.sleep(min(left, _ELSEWHERE_STEP_SECONDS))
            else:
                await asyncio.wait({watch}, timeout=min(left, _STEP_SECONDS))
        finally:
            if watch is not None:
                watch.cancel()
