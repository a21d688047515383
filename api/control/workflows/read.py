"""Reading workflows on the control plane: list, describe, runs, history (control-plane 5.3 to 5.5, 6.1)."""

from __future__ import annotations

import asyncio
from functools import partial

from actors.run import state as run_state
from api.control.workflows.events import shown, stored_event
from api.control.workflows.views import description, is_terminal, list_item, run_item
from api.http import page_tokens
from api.http.errors import ApiError
from api.http.fields import Fields
from api.http.offload import for_size
from api.http.request import Request
from api.http.response import Response
from api.http.searching import searched
from store import history as stored_history
from store import instances, runs
from store.instances import Instance
from store.runs import StoredRun

_WHOLE_HISTORY = 10_000
_DEFAULT_PAGE = 100
# how often a waiting reader looks by itself: at a run hosted here (for a shutdown, a moving shard), at one hosted elsewhere
_STEP_SECONDS = 2.0
_ELSEWHERE_STEP_SECONDS = 0.25
_TAIL = 500

_BUCKETS = ("running", "completed", "failed")


def _instance_not_found(request: Request) -> ApiError:
    return ApiError(404, "instance_not_found", "Workflow not found.", workflow_id=request.path["workflow_id"])


def _run_not_found(request: Request) -> ApiError:
    path = request.path
    return ApiError(404, "run_not_found", "Workflow run not found.", workflow_id=path["workflow_id"], run_id=path["run_id"])


async def _instance(request: Request) -> Instance | None:
    instance = await instances.get(request.services.db, request.path["workflow_id"])
    return instance if instance is not None and instance.namespace == request.namespace else None


async def _run(request: Request) -> StoredRun:
    """The run the URL names, in the caller's namespace and of the workflow id the URL names."""
    run = await runs.load(request.services.db, request.path["run_id"])
    if run is None or run.identity.namespace != request.namespace or run.identity.workflow_id != request.path["workflow_id"]:
        raise _run_not_found(request)
    return run


async def list_(request: Request) -> Response:
    """GET /api/workflows: runs, newest first."""
    fields = Fields(dict(request.query()))
    bucket = fields.choice("status", _BUCKETS)
    size = fields.integer("page_size", low=1, high=200, default=50) or 50
    workflow_type = fields.text("workflow_type", longest=None)
    query = fields.text("query", longest=None)
    fields.check()
    # A page of everything costs little wherever it is; a filter may have to look at every run.
    everything = workflow_type is None and bucket is None and query is None
    tokens = page_tokens.ListTokens(runs.Position, "workflows", request.namespace, workflow_type, bucket, query)
    after = tokens.decode(fields.data.get("next_page_token"))
    found = await searched(
        runs.listing(
            request.services.db if everything else request.services.searches,
            request.namespace,
            workflow_type=workflow_type,
            bucket=bucket,
            query=query,
            after=after,
            limit=size + 1,
        )
    )
    page = found[:size]
    token = tokens.encode((page[-1].started_at, page[-1].run_id)) if len(found) > size else None
    items = [list_item(item) for item in page]
    return Response(200, {"workflows": items, "workflow_count": len(items), "next_page_token": token})


async def current_run(request: Request) -> tuple[StoredRun, Instance]:
    """The current run of the workflow id in the URL; raises ApiError 404."""
    instance = await _instance(request)
    while instance is not None:
        run = await runs.load(request.services.db, instance.current_run_id)
        if run is None:
            break
        if run.row.closed_reason is None:
            return run, instance
        # It may have gone on as another run between the two reads: its own end would pass for the workflow's.
        newest = await _instance(request)
        if newest is None or newest.current_run_id == run.run_id:
            return run, instance
        instance = newest
    raise _instance_not_found(request)


async def named_run(request: Request) -> tuple[StoredRun, Instance]:
    """The run the URL names; raises ApiError 404."""
    run = await _run(request)
    instance = await _instance(request)
    if instance is None:
        raise _run_not_found(request)
    return run, instance


async def describe(request: Request) -> Response:
    """GET /api/workflows/{workflow_id}: its current run."""
    return await _described(request, *await current_run(request))


async def describe_run(request: Request) -> Response:
    """GET /api/workflows/{workflow_id}/runs/{run_id}."""
    return await _described(request, *await named_run(request))


async def _described(request: Request, run: StoredRun, instance: Instance) -> Response:
    state = run_state.decode(run.row.state)
    started = await stored_history.load(request.services.db, run.run_id, state.input_event - 1, state.input_event)
    closed = await _completed_event(request, run) if run.row.closed_reason == "completed" else None
    is_current = instance.current_run_id == run.run_id
    describe_it = partial(
        description,
        run,
        state,
        request.services.settings.rules,
        is_current=is_current,
        run_count=instance.run_count,
        started=started[0] if started else None,
        closed=closed,
        now=request.services.clock.now(),
    )
    return Response(200, await for_size(max(started[0] if started else b"", closed or b"", key=len), describe_it))


async def _completed_event(request: Request, run: StoredRun) -> bytes | None:
    """The serialized WorkflowCompleted event: the last one, or a little before (closed updates, refused starts, archiving)."""
    upto, size = run.row.last_sequence, 1
    while upto > 0:
        events = await stored_history.load(request.services.db, run.run_id, max(0, upto - size), upto)
        found = next((event for event in reversed(events) if stored_event(event).event_type == "WorkflowCompleted"), None)
        if found is not None:
            return found
        upto, size = upto - size, _TAIL
    return None


async def list_runs(request: Request) -> Response:
    """GET /api/workflows/{workflow_id}/runs: ascending run number."""
    found = await searched(runs.of_instance(request.services.searches, request.namespace, request.path["workflow_id"]))
    if not found:
        raise _instance_not_found(request)
    last = len(found) - 1
    items = [run_item(item, index == last) for index, item in enumerate(found)]
    return Response(200, {"workflow_id": request.path["workflow_id"], "run_count": len(items), "runs": items})


# -- history -----------------------------------------------------------------------------------------------------------


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
    if found is None or found.namespace != request.namespace or found.workflow_id != request.path["workflow_id"]:
        raise _run_not_found(request)
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
