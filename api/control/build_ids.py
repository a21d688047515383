"""Build ids of a task queue: how their workers stand, drain, resume, promote (control-plane 7.4, operations 4.5)."""

from __future__ import annotations

import asyncio
from typing import Any

from actors.workers.cohorts import UNVERSIONED, Cohort, Operation, cohorts
from api.http.input.fields import Fields, label
from api.http.request import Request
from api.http.response import Response
from api.http.searching import searched
from api.http.times import ts_or_none
from store import rollouts
from store.rollouts import Rollout

_LONGEST_QUEUE = 255  # as in the starts and registrations that name it


async def list_(request: Request) -> Response:
    """GET /api/task-queues/{task_queue}/build-ids: its cohorts, the active ones first."""
    services = request.services
    namespace, task_queue = request.namespace, request.path["task_queue"]
    stale_after = services.settings.worker_stale_after_seconds
    listed, rows = await asyncio.gather(
        searched(services.workers.listing(namespace, task_queue, db=services.searches)),
        searched(rollouts.of_queue(services.searches, namespace, task_queue)),
    )
    found = cohorts(namespace, task_queue, listed, rows, services.clock.now(), stale_after)
    return Response(
        200,
        {
            "namespace": namespace,
            "task_queue": task_queue,
            "stale_after_seconds": stale_after,
            "build_ids": [_shown(cohort) for cohort in found],
        },
    )


async def drain(request: Request) -> Response:
    """POST /api/task-queues/{task_queue}/build-ids/drain: its workers get no new tasks."""
    return await _change(request, "drain")


async def resume(request: Request) -> Response:
    """POST /api/task-queues/{task_queue}/build-ids/resume: they get tasks again."""
    return await _change(request, "resume")


async def promote(request: Request) -> Response:
    """POST /api/task-queues/{task_queue}/build-ids/promote: new starts on the queue go to this build id."""
    return await _change(request, "promote")


async def _change(request: Request, operation: Operation) -> Response:
    build_id = _build_id(request.fields(), request.path["task_queue"])
    namespace, task_queue = request.namespace, request.path["task_queue"]
    row = await request.services.engine.rollouts.change(operation, namespace, task_queue, build_id)
    return Response(200, {"namespace": namespace, "task_queue": task_queue, **_record(row), "deployment": None})


def _build_id(fields: Fields, task_queue: str) -> str:
    """The build id of a request, "" for null or blank. Raises ValidationFailed."""
    if not fields.has("build_id"):
        fields.fault("build_id", f"The {label('build_id')} field must be present.")
    if len(task_queue) > _LONGEST_QUEUE:
        fields.fault("task_queue", f"The {label('task_queue')} field must not be greater than {_LONGEST_QUEUE} characters.")
    build_id = fields.text("build_id")
    fields.check()
    return build_id or UNVERSIONED


def _record(row: Rollout) -> dict[str, Any]:
    return {
        "build_id": row.build_id or None,
        "drain_intent": "active" if row.drained_at is None else "draining",
        "drained_at": ts_or_none(row.drained_at),
        "promoted_at": ts_or_none(row.promoted_at),
        "rolled_back_at": ts_or_none(row.rolled_back_at),
        "new_start_selected": row.selected,
    }


def _shown(cohort: Cohort) -> dict[str, Any]:
    conflicts = [
        {"workflow_type": name, "fingerprint_count": len(texts), "fingerprints": texts}
        for name, texts in cohort.conflicts.items()
    ]
    return {
        **_record(cohort.rollout),
        "rollout_status": cohort.status,
        "active_worker_count": cohort.active,
        "draining_worker_count": cohort.draining,
        "stale_worker_count": cohort.stale,
        "total_worker_count": cohort.active + cohort.draining + cohort.stale,
        "runtimes": sorted(cohort.runtimes),
        "sdk_versions": sorted(cohort.sdk_versions),
        "last_heartbeat_at": ts_or_none(cohort.last_heartbeat_at),
        "first_seen_at": ts_or_none(cohort.first_seen_at),
        "workflow_definition_fingerprint_count": len(cohort.fingerprinted),
        "workflow_definition_fingerprint_conflicts": conflicts,
    }
