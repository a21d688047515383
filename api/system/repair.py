"""Task repair: what a pass would look at, and the pass (control-plane 12.3, operations 6.1)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from actors.upkeep.candidates import Candidate, Found, look, selected
from actors.upkeep.repairs import repair, scopes_of, wake
from api.http.request import Request
from api.http.response import Response
from api.http.searching import searched
from api.http.services import Services
from api.http.times import ts_or_none
from api.settings import Settings
from api.system.passes import id_list
from store import instances
from store.errors import StoreError


async def status(request: Request) -> Response:
    """GET /api/system/repair."""
    services = request.services
    now = services.clock.now()
    after = services.settings.repair_policy.redispatch_after_seconds
    found = await searched(look(services.searches, now, after, namespace=request.namespace))
    return Response(
        200, {"policy": asdict(services.settings.repair_policy), "candidates": shown(found, services.settings, now)}
    )


class RepairGlance:
    """The candidates that cluster info shows to whoever asks: looked for once in a while, by one request at a time."""

    def __init__(self) -> None:
        self._known: dict[str, Any] | None = None
        self._until = 0.0
        self._looking = False

    async def candidates(self, services: Services) -> dict[str, Any]:
        """As they were a moment ago; none when that is not known."""
        settings, loop = services.settings, asyncio.get_running_loop()
        if not self._looking and self._until <= loop.time():
            self._looking = True
            try:
                now = services.clock.now()
                found = await look(services.searches, now, settings.repair_policy.redispatch_after_seconds)
                self._known = shown(found, settings, now)
            except StoreError:
                pass
            finally:
                self._looking = False
                self._until = loop.time() + settings.repair_policy.loop_throttle_seconds
        return self._known or shown(Found([], [], []), settings, 0)


def _read(request: Request) -> tuple[list[str] | None, str | None]:
    fields = request.fields()
    run_ids, instance_id = id_list(fields, "run_ids"), fields.text("instance_id")
    fields.check()
    return run_ids, instance_id


async def run_pass(request: Request) -> Response:
    """POST /api/system/repair/pass: over everything, or over the runs that are named and the current one of an instance."""
    run_ids, instance_id = await request.read(_read)
    services = request.services
    policy, now = services.settings.repair_policy, services.clock.now()
    named = None if run_ids is None and instance_id is None else list(run_ids or ())
    if named is not None and instance_id is not None:
        instance = await instances.get(services.db, instance_id)
        if instance is not None:
            named.append(instance.current_run_id)
    found = await searched(look(services.searches, now, policy.redispatch_after_seconds, named, request.namespace))
    chosen = selected(found.candidates, policy.scan_limit)
    done = await repair(services.engine, chosen)
    expired, deadline_failures = await wake(services.engine, found.deadline_expired[: policy.scan_limit])
    timed_out, timeout_failures = await wake(services.engine, found.expired_activities[: policy.scan_limit])
    missing = sum(candidate.missing for candidate in chosen)
    task_failures = [{"candidate_id": name, "message": text} for name, text in done.task_failures]
    run_failures = [{"run_id": name, "message": text} for name, text in done.run_failures]
    body = {
        "connection": None,
        "queue": None,
        "run_ids": run_ids or [],
        "instance_id": instance_id,
        "respect_throttle": False,
        "throttled": False,
        "selected_existing_task_candidates": len(chosen) - missing,
        "selected_missing_task_candidates": missing,
        "selected_total_candidates": len(chosen),
        "repaired_existing_tasks": done.existing,
        "repaired_missing_tasks": done.missing,
        "dispatched_tasks": done.dispatched,
        "existing_task_failures": task_failures,
        "missing_run_failures": run_failures,
        "deadline_expired_candidates": len(found.deadline_expired),
        "deadline_expired_tasks_created": len(expired),
        "deadline_expired_failures": [{"run_id": name, "message": text} for name, text in deadline_failures],
        "activity_timeout_candidates": len(found.expired_activities),
        "activity_timeouts_enforced": len(timed_out),
        "activity_timeout_failures": [{"execution_id": name, "message": text} for name, text in timeout_failures],
        "selected_command_contract_candidates": 0,
        "backfilled_command_contracts": 0,
        "command_contract_backfill_unavailable": 0,
        "command_contract_failures": [],
    }
    return Response(207 if task_failures or run_failures else 200, body)


def shown(found: Found, settings: Settings, now: int) -> dict[str, Any]:
    """`candidates`: counts, and the same scope by scope."""
    policy = settings.repair_policy
    chosen = selected(found.candidates, policy.scan_limit)
    counts = _counts(found.candidates, chosen, now)
    scopes = []
    for (queue, compatibility), (candidates, of_them) in scopes_of(found, chosen).items():
        scopes.append(
            {
                "scope_key": f"default:{queue}:{compatibility or 'any'}",
                "connection": "default",
                "queue": queue,
                "compatibility": compatibility,
                **_counts(candidates, of_them, now),
                "scan_limited_by_global_policy": len(of_them) < len(candidates),
            }
        )
    scopes.sort(key=lambda scope: (-scope["total_candidates"], -scope["max_task_candidate_age_ms"], scope["scope_key"]))
    existing_limited = found.more or counts["existing_task_candidates"] > counts["selected_existing_task_candidates"]
    missing_limited = counts["missing_task_candidates"] > counts["selected_missing_task_candidates"]
    return {
        **counts,
        "scan_limit": policy.scan_limit,
        "scan_strategy": policy.scan_strategy,
        "existing_task_scan_limit_reached": existing_limited,
        "missing_task_scan_limit_reached": missing_limited,
        "scan_pressure": existing_limited or missing_limited,
        "scopes": scopes,
    }


def _counts(candidates: Sequence[Candidate], chosen: Sequence[Candidate], now: int) -> dict[str, Any]:
    tasks = [candidate.since for candidate in candidates if not candidate.missing]
    runs = [candidate.since for candidate in candidates if candidate.missing]
    of_tasks = sum(not candidate.missing for candidate in chosen)
    oldest_task, oldest_run = min(tasks, default=None), min(runs, default=None)
    return {
        "existing_task_candidates": len(tasks),
        "missing_task_candidates": len(runs),
        "total_candidates": len(candidates),
        "selected_existing_task_candidates": of_tasks,
        "selected_missing_task_candidates": len(chosen) - of_tasks,
        "selected_total_candidates": len(chosen),
        "oldest_task_candidate_created_at": ts_or_none(oldest_task),
        "oldest_missing_run_started_at": ts_or_none(oldest_run),
        "max_task_candidate_age_ms": 0 if oldest_task is None else max(now - oldest_task, 0) // 1000,
        "max_missing_run_age_ms": 0 if oldest_run is None else max(now - oldest_run, 0) // 1000,
    }
