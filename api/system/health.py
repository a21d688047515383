"""Health and readiness (control-plane 3, configuration-and-security 8)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from api.http.request import Request
from api.http.response import Response
from api.http.services import Services
from api.http.times import now_seconds_z
from store import namespaces, schema
from store.errors import StoreError

_PROBE_SECONDS = 1.8  # health and readiness are answered within two seconds (configuration-and-security 8.1)

_SILENT = {"status": "unavailable", "message": "No answer in time."}


async def health(request: Request) -> Response:
    """GET /api/health: whether the database answers."""
    if not await _shared(request.services, "health", _answers):
        return Response(503, {"status": "degraded", "timestamp": now_seconds_z(), "checks": {"database": "unavailable"}})
    return Response(200, {"status": "serving", "timestamp": now_seconds_z(), "checks": {"database": "ok"}})


async def ready(request: Request) -> Response:
    """GET /api/ready: every check is made on its own, and at the same time; 503 unless all are ok.

    An event stream that stands still is told and does not count: requests are served all the same.
    """
    services = request.services
    waiting = {
        "database": _database_check,
        "migrations": _migrations_check,
        "default_namespace": _namespace_check,
        "cache": _cache_check,
    }
    found = await asyncio.gather(*[_shared(services, name, check) for name, check in waiting.items()])
    checks = {name: result or dict(_SILENT) for name, result in zip(waiting, found, strict=True)}
    if "store" not in checks["cache"]:
        checks["cache"]["store"] = services.settings.cache_store
    checks["auth"] = services.auth.readiness()
    if services.draining:
        checks["lifecycle"] = {"status": "draining"}
    if services.clock.skewed:  # named, and no reason to keep requests away: it is corrected
        checks["clock"] = {"status": "ok", "skew_seconds": services.clock.skew_seconds, "message": services.clock.complaint()}
    is_ready = all(check["status"] == "ok" for check in checks.values())
    trouble = services.events_trouble()
    if trouble is not None:
        checks["events"] = {"status": "degraded", "message": f"The event stream stands still: {trouble}."}
    body = {"status": "ready" if is_ready else "not_ready", "timestamp": now_seconds_z(), "checks": checks}
    return Response(200 if is_ready else 503, body)


async def _shared(services: Services, name: str, check: Callable[[Services], Awaitable[Any]]) -> Any:
    """What `check` finds, None when it takes too long. One runs at a time, whoever asks: askers cost the database nothing."""
    task = services.checks.get(name)
    if task is None or task.done():
        task = services.checks[name] = asyncio.ensure_future(check(services))
    # A check that hangs is not cancelled: ending its statement could take longer than an asker may wait.
    await asyncio.wait({task}, timeout=_PROBE_SECONDS)
    return task.result() if task.done() else None


async def _answers(services: Services) -> bool:
    try:
        await services.probes.fetchval("SELECT 1")
    except StoreError:
        return False
    return True


async def _database_check(services: Services) -> dict[str, Any]:
    if not await _answers(services):
        return {"status": "unavailable", "message": "The database does not answer."}
    fault = None if services.writes is None else services.writes.fault
    if fault is not None:
        return {"status": "unavailable", "message": f"The database takes no writes: {fault}."}
    return {"status": "ok"}


async def _migrations_check(services: Services) -> dict[str, Any]:
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            found = await schema.look(services.probes)
    except (StoreError, TimeoutError):
        return {"status": "unavailable", "message": "The schema cannot be read."}
    if found.too_new is not None:
        return {"status": "unavailable", "message": f"{found.too_new[0].upper()}{found.too_new[1:]}."}
    if not found.missing_tables and not found.pending:
        return {"status": "ok"}
    check: dict[str, Any] = {
        "status": "missing",
        "missing_tables": list(found.missing_tables),
        "remediation": "Run server-bootstrap to apply the migrations.",
    }
    if found.pending:
        check["pending_migrations"] = list(found.pending)
    return check


async def _namespace_check(services: Services) -> dict[str, Any]:
    name = services.settings.default_namespace
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            found = await namespaces.get(services.probes, name)
    except (StoreError, TimeoutError):
        return {"status": "unavailable", "message": "The namespaces cannot be read."}
    if found is not None:
        return {"status": "ok", "namespace": name}
    return {
        "status": "missing",
        "namespace": name,
        "remediation": "Run server-bootstrap to seed the default namespace.",
    }


async def _cache_check(services: Services) -> dict[str, Any]:
    store = services.settings.cache_store
    if services.cache_probe is None:
        return {"status": "unavailable", "store": store, "message": "No coordination store is configured."}
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            fault = await services.cache_probe()
    except TimeoutError:
        fault = "The coordination store does not answer."
    if fault is None:
        return {"status": "ok", "store": store}
    return {"status": "unavailable", "store": store, "message": fault}
