"""The routes of schedules (configuration-and-security 3.2)."""

from __future__ import annotations

from api.control.schedules import changes, fires, reading
from api.http.route import OPERATORS, Route

_ONE = "/schedules/{schedule_id}"

ROUTES = [
    Route("GET", "/schedules", reading.list_, OPERATORS),
    Route("POST", "/schedules", changes.create, OPERATORS),
    Route("GET", _ONE, reading.describe, OPERATORS),
    Route("PUT", _ONE, changes.update, OPERATORS),
    Route("DELETE", _ONE, changes.delete, OPERATORS),
    Route("GET", f"{_ONE}/history", reading.history, OPERATORS),
    Route("POST", f"{_ONE}/pause", changes.pause, OPERATORS),
    Route("POST", f"{_ONE}/resume", changes.resume, OPERATORS),
    Route("POST", f"{_ONE}/trigger", fires.trigger, OPERATORS),
    Route("POST", f"{_ONE}/backfill", fires.backfill, OPERATORS),
]
