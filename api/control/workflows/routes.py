"""The routes of workflows and their runs (configuration-and-security 3.2)."""

from __future__ import annotations

from api.control.workflows import commands, export, history, listing, queries, read, start, updates
from api.http.route import OPERATORS, Route

_WORKFLOW = "/workflows/{workflow_id}"
_RUN = f"{_WORKFLOW}/runs/{{run_id}}"

_WORKFLOWS = [
    Route("GET", "/workflows", listing.list_, OPERATORS, operation="list"),
    Route("GET", "/workflows/count", listing.count, OPERATORS),
    Route("POST", "/workflows", start.start, OPERATORS, operation="start"),
    Route("GET", "/workflows/{workflow_id}", read.describe, OPERATORS, operation="describe"),
    Route("GET", "/workflows/{workflow_id}/runs", read.list_runs, OPERATORS, operation="list_runs"),
    Route("GET", _RUN, read.describe_run, OPERATORS, operation="describe_run"),
    Route("GET", f"{_RUN}/history", history.history, OPERATORS, operation="history"),
    Route("GET", f"{_RUN}/history/export", export.export, OPERATORS),
    Route("POST", f"{_WORKFLOW}/repair", commands.repair, OPERATORS, operation="repair"),
    Route("POST", f"{_WORKFLOW}/archive", commands.archive, OPERATORS, operation="archive"),
]

# Commands and questions that may name the run, too (control-plane 5.12).
_TARGETED = [
    Route("POST", f"{target}/{path}", endpoint, OPERATORS, operation=operation)
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
