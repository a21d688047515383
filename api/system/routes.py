"""What the server says of itself: who may ask, and what answers (configuration-and-security 3.2)."""

from __future__ import annotations

from api.http.route import ALL, Route
from api.system import cluster_info, health

ROUTES = [
    Route("GET", "/health", health.health, None, versioned=False, namespaced=False),
    Route("GET", "/ready", health.ready, None, versioned=False, namespaced=False),
    Route("GET", "/cluster/info", cluster_info.cluster_info, ALL, versioned=False, namespaced=False),
]
