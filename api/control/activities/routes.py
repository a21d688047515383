"""The routes of standalone activities (configuration-and-security 3.2). Their answers carry no `control_plane` object."""

from __future__ import annotations

from api.control.activities import read, start
from api.http.route import OPERATORS, Route

ROUTES = [
    Route("GET", "/activities", read.list_, OPERATORS),
    Route("POST", "/activities", start.start, OPERATORS),
    Route("GET", "/activities/{activity_id}", read.describe, OPERATORS),
]
