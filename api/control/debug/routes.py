"""The routes of the debug view (configuration-and-security 3.2)."""

from __future__ import annotations

from api.control.debug import snapshot
from api.http.route import OPERATORS, Route

ROUTES = [
    Route("GET", "/workflows/{workflow_id}/debug", snapshot.debug, OPERATORS, operation="debug_workflow"),
    Route("GET", "/workflows/{workflow_id}/runs/{run_id}/debug", snapshot.debug_run, OPERATORS, operation="debug_workflow"),
]
