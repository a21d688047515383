"""GET /api/system/metrics: the two metrics whose size has a bound (control-plane 12.1, operations 7.1)."""

from __future__ import annotations

from typing import Any

from actors.run.views.census import Failing
from api.http.request import Request
from api.http.response import Response
from api.http.searching import searched
from api.http.times import ts
from api.system.metrics.gathering import Gathering

PROJECTIONS = ("run_summaries", "run_waits", "run_timeline_entries", "run_timer_entries", "run_lineage_entries")


async def metrics(request: Request) -> Response:
    """Failing workflow tasks by type, at most so many types; projections, which are derived here and never drift."""
    services = request.services
    found = await searched(services.kept(Gathering).of(services, request.namespace))
    failures = consecutive_failures(found.census.failing, services.settings.metrics_failure_type_limit)
    shown: dict[str, dict[str, Any]] = {
        "dw_workflow_task_consecutive_failures": failures,
        "dw_projection_drift_total": _drift(),
    }
    labels = {name: metric["label_cardinality_policy"] for name, metric in shown.items()}
    body = {
        "generated_at": ts(found.at),
        "namespace": request.namespace,
        "metrics": shown,
        "cardinality": {"metric_label_sets": labels},
    }
    return Response(200, body)


def consecutive_failures(failing: dict[str, Failing], limit: int) -> dict[str, Any]:
    """The `limit` types that failed most, then by name; the rest only as totals."""
    ordered = sorted(failing.items(), key=lambda item: (-item[1].most, item[0]))
    shown, rest = ordered[:limit], ordered[limit:]
    return {
        "max_consecutive_failures": max((found.most for found in failing.values()), default=0),
        "failed_task_count": sum(found.tasks for found in failing.values()),
        "workflow_type_count": len(failing),
        "workflow_type_limit": limit,
        "workflow_types_truncated": bool(rest),
        "suppressed_workflow_type_count": len(rest),
        "suppressed_failed_task_count": sum(found.tasks for _, found in rest),
        "label_cardinality_policy": {
            "namespace": "request_scope_not_label",
            "workflow_type": {
                "cardinality_class": "bounded_series",
                "limit": limit,
                "selection": "top_by_max_consecutive_failures_then_name",
            },
        },
        "by_workflow_type": [
            {"workflow_type": name, "max_consecutive_failures": found.most, "failed_task_count": found.tasks}
            for name, found in shown
        ],
    }


def _drift() -> dict[str, Any]:
    return {
        "total": 0,
        "table_count": len(PROJECTIONS),
        "tables_with_drift": 0,
        "scope": "server",
        "label_cardinality_policy": {
            "namespace": "server_scope_no_label",
            "table": {
                "cardinality_class": "finite_projection_table_inventory",
                "values": list(PROJECTIONS),
                "selection": "fixed_projection_table_inventory",
            },
        },
        "by_table": [{"table": name, "needs_rebuild": 0} for name in PROJECTIONS],
    }
