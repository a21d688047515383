"""The route table: every path below `/api`, who may call it and what answers (configuration-and-security 3.2)."""

from __future__ import annotations

from api.control import routes as control
from api.http.route import Route
from api.system import routes as system
from api.worker import routes as worker

ROUTES: list[Route] = [*system.ROUTES, *control.ROUTES, *worker.ROUTES]
