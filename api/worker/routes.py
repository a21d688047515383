"""The routes of the worker plane (configuration-and-security 3.2)."""

from __future__ import annotations

from api.http.route import WORKER, WORKER_ROLE, Route
from api.worker import activity_tasks, query_tasks, registration, workflow_tasks

_WORKFLOW_TASK = "/worker/workflow-tasks/{task_id}"
_ACTIVITY_TASK = "/worker/activity-tasks/{task_id}"
_QUERY_TASK = "/worker/query-tasks/{query_task_id}"

ROUTES = [
    Route("POST", "/worker/register", registration.register, WORKER_ROLE, plane=WORKER),
    Route("POST", "/worker/heartbeat", registration.heartbeat, WORKER_ROLE, plane=WORKER),
    Route("POST", "/worker/workflow-tasks/poll", workflow_tasks.poll_task, WORKER_ROLE, plane=WORKER),
    Route("POST", f"{_WORKFLOW_TASK}/history", workflow_tasks.history_page, WORKER_ROLE, plane=WORKER),
    Route("POST", f"{_WORKFLOW_TASK}/heartbeat", workflow_tasks.heartbeat, WORKER_ROLE, plane=WORKER),
    Route("POST", f"{_WORKFLOW_TASK}/complete", workflow_tasks.complete, WORKER_ROLE, plane=WORKER),
    Route("POST", f"{_WORKFLOW_TASK}/fail", workflow_tasks.fail, WORKER_ROLE, plane=WORKER),
    Route("POST", "/worker/activity-tasks/poll", activity_tasks.poll_task, WORKER_ROLE, plane=WORKER),
    Route("POST", f"{_ACTIVITY_TASK}/complete", activity_tasks.complete, WORKER_ROLE, plane=WORKER),
    Route("POST", f"{_ACTIVITY_TASK}/fail", activity_tasks.fail, WORKER_ROLE, plane=WORKER),
    Route("POST", f"{_ACTIVITY_TASK}/heartbeat", activity_tasks.heartbeat, WORKER_ROLE, plane=WORKER),
    Route("POST", "/worker/query-tasks/poll", query_tasks.poll_task, WORKER_ROLE, plane=WORKER),
    Route("POST", f"{_QUERY_TASK}/complete", query_tasks.complete, WORKER_ROLE, plane=WORKER),
    Route("POST", f"{_QUERY_TASK}/fail", query_tasks.fail, WORKER_ROLE, plane=WORKER),
]
