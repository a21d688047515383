"""The family and the name of every route's operation, as a provider is told them (configuration-and-security 3.2).

One table, also of routes that are not there yet. A route without a row is asked about without both.
"""

from __future__ import annotations

from typing import NamedTuple


class Operation(NamedTuple):
    """`family`: None for a route that belongs to none."""

    family: str | None
    name: str


_RUN = "/workflows/{workflow_id}/runs/{run_id}"
_WORKFLOW = "/workflows/{workflow_id}"
_WORKFLOW_TASK = "/worker/workflow-tasks/{task_id}"
_ACTIVITY_TASK = "/worker/activity-tasks/{task_id}"
_QUERY_TASK = "/worker/query-tasks/{query_task_id}"
_BUILDS = "/task-queues/{task_queue}/build-ids"
_SCHEDULE = "/schedules/{schedule_id}"

# Family, method, path, name.
_ROWS: tuple[tuple[str | None, str, str, str], ...] = (
    ("cluster", "GET", "/cluster/info", "cluster_info"),
    ("namespace", "GET", "/namespaces", "index"),
    ("namespace", "POST", "/namespaces", "store"),
    ("namespace", "GET", "/namespaces/{namespace}", "show"),
    ("namespace", "PUT", "/namespaces/{namespace}", "update"),
    ("namespace", "PUT", "/namespaces/{namespace}/external-storage", "update_external_storage"),
    ("namespace", "DELETE", "/namespaces/{namespace}", "destroy"),
    (None, "POST", "/storage/test", "test"),
    ("workflow", "GET", "/workflows", "list"),
    ("workflow", "POST", "/workflows", "start"),
    ("workflow", "GET", "/workflows/count", "count"),
    ("workflow", "GET", _WORKFLOW, "describe"),
    ("workflow", "GET", f"{_WORKFLOW}/debug", "debug_workflow"),
    ("workflow", "GET", f"{_WORKFLOW}/runs", "list_runs"),
    ("workflow", "GET", _RUN, "describe_run"),
    ("workflow", "GET", f"{_RUN}/debug", "debug_workflow"),
    ("workflow", "GET", f"{_RUN}/history", "history"),
    ("workflow", "GET", f"{_RUN}/history/export", "export"),
    *(
        ("workflow", "POST", f"{base}/{verb}/{{{verb}_name}}", verb)
        for base in (_WORKFLOW, _RUN)
        for verb in ("signal", "query", "update")
    ),
    *(("workflow", "POST", f"{_WORKFLOW}/{verb}", verb) for verb in ("cancel", "terminate", "repair", "archive")),
    *(("workflow", "POST", f"{_RUN}/{verb}", verb) for verb in ("cancel", "terminate")),
    ("workflow", "POST", "/workflows/import/embedded-v2", "import_embedded_v2"),
    ("activity", "POST", "/activities", "start"),
    ("activity", "GET", "/activities", "index"),
    ("activity", "GET", "/activities/{activity_id}", "show"),
    (None, "POST", "/bridge-adapters/webhook/{adapter}", "webhook"),
    ("worker", "POST", "/worker/register", "register"),
    ("worker", "POST", "/worker/heartbeat", "heartbeat"),
    ("worker", "POST", "/worker/workflow-tasks/poll", "poll_workflow_tasks"),
    ("worker", "POST", f"{_WORKFLOW_TASK}/history", "workflow_task_history"),
    ("worker", "POST", f"{_WORKFLOW_TASK}/heartbeat", "heartbeat_workflow_task"),
    ("worker", "POST", f"{_WORKFLOW_TASK}/complete", "complete_workflow_task"),
    ("worker", "POST", f"{_WORKFLOW_TASK}/fail", "fail_workflow_task"),
    ("worker", "POST", "/worker/query-tasks/poll", "poll_query_tasks"),
    ("worker", "POST", f"{_QUERY_TASK}/complete", "complete_query_task"),
    ("worker", "POST", f"{_QUERY_TASK}/fail", "fail_query_task"),
    ("worker", "POST", "/worker/activity-tasks/poll", "poll"),
    *(("worker", "POST", f"{_ACTIVITY_TASK}/{verb}", verb) for verb in ("complete", "fail", "heartbeat")),
    ("worker_management", "GET", "/workers", "index"),
    ("worker_management", "GET", "/workers/{worker_id}", "show"),
    ("worker_management", "DELETE", "/workers/{worker_id}", "destroy"),
    ("task_queue", "GET", "/task-queues", "index"),
    ("task_queue", "GET", "/task-queues/{task_queue}", "show"),
    ("task_queue", "GET", _BUILDS, "build_ids"),
    *(("task_queue", "POST", f"{_BUILDS}/{verb}", f"{verb}_build_id") for verb in ("drain", "resume", "promote")),
    ("schedule", "GET", "/schedules", "index"),
    ("schedule", "POST", "/schedules", "store"),
    ("schedule", "GET", _SCHEDULE, "show"),
    ("schedule", "PUT", _SCHEDULE, "update"),
    ("schedule", "DELETE", _SCHEDULE, "destroy"),
    ("schedule", "GET", f"{_SCHEDULE}/history", "history"),
    *(("schedule", "POST", f"{_SCHEDULE}/{verb}", verb) for verb in ("pause", "resume", "trigger", "backfill")),
    ("search_attribute", "GET", "/search-attributes", "index"),
    ("search_attribute", "POST", "/search-attributes", "store"),
    ("search_attribute", "DELETE", "/search-attributes/{name}", "destroy"),
    ("system", "GET", "/system/metrics", "metrics"),
    ("system", "GET", "/system/operator-metrics", "operator_metrics"),
    ("system", "GET", "/system/repair", "repair_status"),
    ("system", "POST", "/system/repair/pass", "repair_pass"),
    ("system", "GET", "/system/activity-timeouts", "activity_timeout_status"),
    ("system", "POST", "/system/activity-timeouts/pass", "activity_timeout_enforce_pass"),
    ("system", "GET", "/system/retention", "retention_status"),
    ("system", "POST", "/system/retention/pass", "retention_enforce_pass"),
)

OPERATIONS = {(method, path): Operation(family, name) for family, method, path, name in _ROWS}
