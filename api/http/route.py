"""The declarative form of the route table: what one route is, and the paths that routes share."""

from __future__ import annotations

from dataclasses import dataclass, field

from api.http.request import Endpoint

CONTROL = "control"
WORKER = "worker"

# The role sets of the route table (configuration-and-security 3.2: W, O, A).
WORKER_ROLE = ("worker",)
OPERATORS = ("operator", "admin")
ADMINS = ("admin",)
ALL = ("worker", "operator", "admin")


@dataclass(frozen=True, slots=True)
class Route:
    """One route (configuration-and-security 3.2).

    `template` is below `/api`, parameters in braces. `roles` None: public. `plane` decides envelope and version header;
    `versioned` whether the request must carry the plane's version header; `namespaced` whether the namespace must exist.
    `operation` names the workflow operation whose `control_plane` object the answers carry.
    """

    method: str
    template: str
    endpoint: Endpoint
    roles: tuple[str, ...] | None
    plane: str = CONTROL
    versioned: bool = True
    namespaced: bool = True
    operation: str | None = None

    def __post_init__(self) -> None:
        if self.roles is not None and not self.roles:
            raise ValueError(f"route {self.method} {self.template} has no role requirement")


@dataclass(slots=True)
class PathEntry:
    """All routes of one path. HEAD is answered by the GET route."""

    template: str
    plane: str
    routes: dict[str, Route] = field(default_factory=dict)

    @property
    def allow(self) -> str:
        """The `Allow` header of a 405."""
        return ", ".join(sorted(self.routes))


def paths_of(routes: list[Route]) -> list[PathEntry]:
    """The table grouped by path, HEAD added to every GET. Two routes for one method and path are a programming error."""
    entries: dict[str, PathEntry] = {}
    for route in routes:
        entry = entries.setdefault(route.template, PathEntry(route.template, route.plane))
        methods = ("GET", "HEAD") if route.method == "GET" else (route.method,)
        for method in methods:
            if method in entry.routes:
                raise ValueError(f"duplicate route {method} {route.template}")
            entry.routes[method] = route
    return list(entries.values())


def plane_of(path: str) -> str:
    """The plane of any path, also one without a route (configuration-and-security 1.2)."""
    return WORKER if path == "/api/worker" or path.startswith("/api/worker/") else CONTROL
