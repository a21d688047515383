"""The routes of workflows and their runs (configuration-and-security 3.2)."""

from __future__ import annotations

from api.control.workflows import commands, queries, read, start, updates
from api.http.route import O, Route

_WORKFLOW = "/workflows/{workflow_id}"
_RUN = f"{_WORKFLOW}/runs/{{run_id}}"

_WORKFLOWS = [
    Route("GET", "/workflows", read.index, O, operation="list"),
    Route("POST", "/workflows", start.start, O, operation="start"),
    Route("GET", "/workflows/{workflow_id}", read.describe, O, operation="describe"),
    Route("GET", "/workflows/{workflow_id}/runs", read.list_runs, O, operation="list_runs"),
    Route("GET", _RUN, read.describe_run, O, operation="describe_run"),
    Route("GET", f"{_RUN}/history", read.history, O, operation="history"),
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

ROUTES = [*_WORKFLOWS, *_TARGETED]
