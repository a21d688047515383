"""The routes of the control plane (configuration-and-security 3.2)."""

from __future__ import annotations

from api.control import namespaces, workers
from api.control.debug import routes as debug
from api.control.workflows import routes as workflows
from api.http.route import A, O, Route

_NAMESPACES = [
    Route("GET", "/namespaces", namespaces.index, O, namespaced=False),
    Route("POST", "/namespaces", namespaces.store, A, namespaced=False),
    Route("GET", "/namespaces/{namespace}", namespaces.show, O, namespaced=False),
    Route("PUT", "/namespaces/{namespace}", namespaces.update, A, namespaced=False),
]

_WORKERS = [
    Route("GET", "/workers", workers.index, O),
    Route("GET", "/workers/{worker_id}", workers.show, O),
    Route("DELETE", "/workers/{worker_id}", workers.destroy, A),
]

ROUTES = [*_NAMESPACES, *workflows.ROUTES, *debug.ROUTES, *_WORKERS]
