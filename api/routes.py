"""The route table: every path below `/api`, who may call it and what answers (configuration-and-security 3.2)."""

from __future__ import annotations

from api.control import namespaces, workers
from api.control.debug import snapshot
from api.control.workflows import commands, queries, read, start, updates
from api.http.route import ALL, WORKER, A, O, Route, W
from api.system import cluster
from api.worker import activity_tasks, query_tasks, workflow_tasks

_SYSTEM = [
    Route("GET", "/health", cluster.health, None, versioned=False, namespaced=False),
    Route("GET", "/ready", cluster.ready, None, versioned=False, namespaced=False),
    Route("GET", "/cluster/info", cluster.cluster_info, ALL, versioned=False, namespaced=False),
]

_NAMESPACES = [
    Route("GET", "/namespaces", namespaces.index, O, namespaced=False),
    Route("POST", "/namespaces", namespaces.store, A, namespaced=False),
    Route("GET", "/namespaces/{namespace}", namespaces.show, O, namespaced=False),
    Route("PUT", "/namespaces/{namespace}", namespaces.update, A, namespaced=False),
]

_WORKFLOW = "/workflows/{workflow_id}"
_RUN = f"{_WORKFLOW}/runs/{{run_id}}"

_WORKFLOWS = [
    Route("GET", "/workflows", read.index, O, operation="list"),
    Route("POST", "/workflows", start.start, O, operation="start"),
    Route("GET", "/workflows/{workflow_id}", read.describe, O, operation="describe"),
    Route("GET", "/workflows/{workflow_id}/runs", read.list_runs, O, operation="list_runs"),
    Route("GET", _RUN, read.describe_run, O, operation="describe_run"),
    Route("GET", f"{_RUN}/history", read.history, O, operation="history"),
    Route("GET", f"{_WORKFLOW}/debug", snapshot.debug, O, operation="debug_workflow"),
    Route("GET", f"{_RUN}/debug", snapshot.debug_run, O, operation="debug_workflow"),
    Route("POST", f"{_WORKFLOW}/repair", commands.repair, O, operation="repair"),
    Route("POST", f"{_WORKFLOW}/archive", commands.archive, O, operation="archive"),
]

# Commands and questions that may name the run, too (control-plane 5.12).
_TARGETED = [
    Route("POST", f"{target}/{path}", endpoint, O, operation=operation)
    for target in (_WORKFLOW, _RUN)
    for path, endpoint, operation in (
        ("signal/{signal_name}", commands.signal, "signal"),
        ("query/{query_name}", queries.query, "query"),
        ("update/{update_name}", updates.update, "update"),
        ("cancel", commands.cancel, "cancel"),
        ("terminate", commands.terminate, "terminate"),
    )
]

_WORKERS = [
    Route("GET", "/workers", workers.index, O),
    Route("GET", "/workers/{worker_id}", workers.show, O),
    Route("DELETE", "/workers/{worker_id}", workers.destroy, A),
]

_WORKFLOW_TASK = "/worker/workflow-tasks/{task_id}"
_ACTIVITY_TASK = "/worker/activity-tasks/{task_id}"
_QUERY_TASK = "/worker/query-tasks/{query_task_id}"

_WORKER_PLANE = [
    Route("POST", "/worker/register", workers.register, W, plane=WORKER),
    Route("POST", "/worker/heartbeat", workers.heartbeat, W, plane=WORKER),
    Route("POST", "/worker/workflow-tasks/poll", workflow_tasks.poll_task, W, plane=WORKER),
    Route("POST", f"{_WORKFLOW_TASK}/history", workflow_tasks.history_page, W, plane=WORKER),
    Route("POST", f"{_WORKFLOW_TASK}/heartbeat", workflow_tasks.heartbeat, W, plane=WORKER),
    Route("POST", f"{_WORKFLOW_TASK}/complete", workflow_tasks.complete, W, plane=WORKER),
    Route("POST", f"{_WORKFLOW_TASK}/fail", workflow_tasks.fail, W, plane=WORKER),
    Route("POST", "/worker/activity-tasks/poll", activity_tasks.poll_task, W, plane=WORKER),
    Route("POST", f"{_ACTIVITY_TASK}/complete", activity_tasks.complete, W, plane=WORKER),
    Route("POST", f"{_ACTIVITY_TASK}/fail", activity_tasks.fail, W, plane=WORKER),
    Route("POST", f"{_ACTIVITY_TASK}/heartbeat", activity_tasks.heartbeat, W, plane=WORKER),
    Route("POST", "/worker/query-tasks/poll", query_tasks.poll_task, W, plane=WORKER),
    Route("POST", f"{_QUERY_TASK}/complete", query_tasks.complete, W, plane=WORKER),
    Route("POST", f"{_QUERY_TASK}/fail", query_tasks.fail, W, plane=WORKER),
]

ROUTES: list[Route] = [*_SYSTEM, *_NAMESPACES, *_WORKFLOWS, *_TARGETED, *_WORKERS, *_WORKER_PLANE]
