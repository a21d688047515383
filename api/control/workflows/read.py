"""Reading workflows on the control plane: describe, runs (control-plane 5.4 and 5.5)."""

from __future__ import annotations

from functools import partial

from actors.run import state as run_state
from api.control.workflows.events import stored_event
from api.control.workflows.lookup import current_run, instance_not_found, named_run
from api.control.workflows.views import description, run_item
from api.http.input.offload import for_size
from api.http.request import Request
from api.http.response import Response
from api.http.searching import searched
from store import history as stored_history
from store import runs
from store.instances import Instance
from store.runs import StoredRun
from store.upkeep import bare_runs

_TAIL = 500


async def describe(request: Request) -> Response:
    """GET /api/workflows/{workflow_id}: its current run."""
    return await _described(request, *await current_run(request))


async def describe_run(request: Request) -> Response:
    """GET /api/workflows/{workflow_id}/runs/{run_id}."""
    return await _described(request, *await named_run(request))


async def _described(request: Request, run: StoredRun, instance: Instance) -> Response:
    state = run_state.decode(run.row.state)
    started = await stored_history.load(request.services.db, run.run_id, state.input_event - 1, state.input_event)
    closed = await completed_event(request, run) if run.row.closed_reason == "completed" else None
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


async def completed_event(request: Request, run: StoredRun) -> bytes | None:
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
    named = request.namespace, request.path["workflow_id"]
    # Those that are there first: one that is pruned in between is then seen twice, not missed.
    found = await searched(runs.of_instance(request.services.searches, *named))
    known = {item.run_number for item in found}
    pruned = await bare_runs.of_instance(request.services.db, *named)
    found = sorted([*found, *(item for item in pruned if item.run_number not in known)], key=lambda item: item.run_number)
    if not found:
        raise instance_not_found(request)
    last = len(found) - 1
    items = [run_item(item, index == last) for index, item in enumerate(found)]
    return Response(200, {"workflow_id": request.path["workflow_id"], "run_count": len(items), "runs": items})
