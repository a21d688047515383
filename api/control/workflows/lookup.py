"""The workflow or run that a URL names, in the namespace of the request, as stored."""

from __future__ import annotations

from actors.hosting import stored_runs
from api.http.errors import ApiError
from api.http.request import Request
from store import instances
from store.instances import Instance
from store.runs import StoredRun


def instance_not_found(request: Request) -> ApiError:
    """404 for a workflow id the namespace does not have."""
    return ApiError(404, "instance_not_found", "Workflow not found.", workflow_id=request.path["workflow_id"])


def run_not_found(request: Request) -> ApiError:
    """404 for a run the workflow id does not have."""
    path = request.path
    return ApiError(404, "run_not_found", "Workflow run not found.", workflow_id=path["workflow_id"], run_id=path["run_id"])


async def named_instance(request: Request) -> Instance | None:
    """The workflow id in the URL, None when the request's namespace has none."""
    return await _instance(request, request.path["workflow_id"])


async def _instance(request: Request, workflow_id: str) -> Instance | None:
    instance = await instances.get(request.services.db, workflow_id)
    return instance if instance is not None and instance.namespace == request.namespace else None


async def _run(request: Request) -> StoredRun:
    """The run the URL names, in the caller's namespace and of the workflow id the URL names."""
    run = await stored_runs.load(request.services.db, request.path["run_id"])
    if run is None or run.identity.namespace != request.namespace or run.identity.workflow_id != request.path["workflow_id"]:
        raise run_not_found(request)
    return run


async def current_run(request: Request) -> tuple[StoredRun, Instance]:
    """The current run of the workflow id in the URL; raises ApiError 404."""
    found = await current_run_of(request, request.path["workflow_id"])
    if found is None:
        raise instance_not_found(request)
    return found


async def current_run_of(request: Request, workflow_id: str) -> tuple[StoredRun, Instance] | None:
    """The current run of a workflow id, None when the request's namespace has none."""
    instance = await _instance(request, workflow_id)
    while instance is not None:
        run = await stored_runs.load(request.services.db, instance.current_run_id)
        if run is None:
            break
        if run.row.closed_reason is None:
            return run, instance
        # It may have gone on as another run between the two reads: its own end would pass for the workflow's.
        newest = await _instance(request, workflow_id)
        if newest is None or newest.current_run_id == run.run_id:
            return run, instance
        instance = newest
    return None


async def named_run(request: Request) -> tuple[StoredRun, Instance]:
    """The run the URL names; raises ApiError 404."""
    run = await _run(request)
    instance = await named_instance(request)
    if instance is None:
        raise run_not_found(request)
    return run, instance
