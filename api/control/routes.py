"""The routes of the control plane (configuration-and-security 3.2)."""

from __future__ import annotations

from api.control import build_ids, namespaces, search_attributes, storage, workers
from api.control.activities import routes as activities
from api.control.bridge import webhook
from api.control.debug import routes as debug
from api.control.schedules import routes as schedules
from api.control.task_queues import endpoints as task_queues
from api.control.workflows import routes as workflows
from api.http.route import ADMINS, OPERATORS, Route

_NAMESPACES = [
    Route("GET", "/namespaces", namespaces.list_, OPERATORS, namespaced=False),
    Route("POST", "/namespaces", namespaces.create, ADMINS, namespaced=False),
    Route("GET", "/namespaces/{namespace}", namespaces.describe, OPERATORS, namespaced=False),
    Route("PUT", "/namespaces/{namespace}", namespaces.update, ADMINS, namespaced=False),
    Route("PUT", "/namespaces/{namespace}/external-storage", storage.set_policy, ADMINS, namespaced=False),
    Route("POST", "/storage/test", storage.test, ADMINS),
    Route("DELETE", "/namespaces/{namespace}", namespaces.delete, ADMINS, namespaced=False),
]

_WORKERS = [
    Route("GET", "/workers", workers.list_, OPERATORS),
    Route("GET", "/workers/{worker_id}", workers.describe, OPERATORS),
    Route("DELETE", "/workers/{worker_id}", workers.delete, ADMINS),
]

_BUILD_IDS = [
    Route("GET", "/task-queues/{task_queue}/build-ids", build_ids.list_, OPERATORS),
    Route("POST", "/task-queues/{task_queue}/build-ids/drain", build_ids.drain, OPERATORS),
    Route("POST", "/task-queues/{task_queue}/build-ids/resume", build_ids.resume, OPERATORS),
    Route("POST", "/task-queues/{task_queue}/build-ids/promote", build_ids.promote, OPERATORS),
]

_TASK_QUEUES = [
    Route("GET", "/task-queues", task_queues.list_, OPERATORS),
    Route("GET", "/task-queues/{task_queue}", task_queues.describe, OPERATORS),
]

_SEARCH_ATTRIBUTES = [
    Route("GET", "/search-attributes", search_attributes.list_, OPERATORS),
    Route("POST", "/search-attributes", search_attributes.create, OPERATORS),
    Route("DELETE", "/search-attributes/{name}", search_attributes.delete, OPERATORS),
]

ROUTES = [
    *_NAMESPACES,
    *workflows.ROUTES,
    *activities.ROUTES,
    *webhook.ROUTES,
    *debug.ROUTES,
    *schedules.ROUTES,
    *_WORKERS,
    *_TASK_QUEUES,
    *_BUILD_IDS,
    *_SEARCH_ATTRIBUTES,
]
