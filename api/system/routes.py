"""What the server says of itself: who may ask, and what answers (configuration-and-security 3.2)."""

from __future__ import annotations

from api.http.route import ADMINS, ALL, Route
from api.system import activity_timeouts, cluster_info, health, repair, retention
from api.system.metrics.bounded import metrics
from api.system.metrics.operator import operator_metrics

ROUTES = [
    Route("GET", "/health", health.health, None, versioned=False, namespaced=False),
    Route("GET", "/ready", health.ready, None, versioned=False, namespaced=False),
    Route("GET", "/cluster/info", cluster_info.cluster_info, ALL, versioned=False, namespaced=False),
    Route("GET", "/system/metrics", metrics, ADMINS),
    Route("GET", "/system/operator-metrics", operator_metrics, ADMINS),
    Route("GET", "/system/repair", repair.status, ADMINS),
    Route("POST", "/system/repair/pass", repair.run_pass, ADMINS),
    Route("GET", "/system/activity-timeouts", activity_timeouts.status, ADMINS),
    Route("POST", "/system/activity-timeouts/pass", activity_timeouts.run_pass, ADMINS),
    Route("GET", "/system/retention", retention.status, ADMINS),
    Route("POST", "/system/retention/pass", retention.run_pass, ADMINS),
]
