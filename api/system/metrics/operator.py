"""GET /api/system/operator-metrics (control-plane 12.2, operations 7.2)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import msgspec

from api.http.request import Request
from api.http.response import Response
from api.http.searching import searched
from api.http.services import Services
from api.http.times import ts, ts_or_none
from api.system.metrics.bounded import PROJECTIONS
from api.system.metrics.gathering import Gathered, Gathering
from api.system.repair import RepairGlance
from store.workers import Worker

_MOST_WORKERS = 500  # shown in `fleet`
_POLL_INTERVAL_MS = 50
_CAPABILITIES = {
    "database": ["row_locks", "transactions", "compare_and_set"],
    "queue": ["delayed_tasks", "long_poll", "wake_up"],
    "cache": ["atomic_locks"],
    "codec": ["avro"],
}


async def operator_metrics(request: Request) -> Response:
    """Every group the contract names, of the request's namespace; what an engine of polls cannot have is zero."""
    services, namespace = request.services, request.namespace
    found = await searched(services.kept(Gathering).of(services, namespace))
    settings, census = services.settings, found.census
    metrics: dict[str, Any] = {
        "generated_at": ts(found.at),
        "runs": _runs(found),
        "tasks": _tasks(found),
        "activities": _activities(found),
        "backlog": _backlog(found),
        "repair": await services.kept(RepairGlance).candidates(services),
        "starts": {
            "pending_runs": census.pending.count,
            "pending_commands": census.pending.count,
            "ready_tasks": census.first_tasks_ready,
            "oldest_pending_start_at": ts_or_none(census.pending.since),
            "max_pending_ms": _age(census.pending.since, found.at),
        },
        "schedules": _schedules(found),
        "history": _history(found, services),
        "command_contracts": {
            "backfill_needed_runs": 0,
            "backfill_available_runs": 0,
            "backfill_unavailable_runs": 0,
        },
        "projections": {name: _projection(name) for name in PROJECTIONS},
        "workers": _workers(found, namespace, settings.worker_stale_after_seconds),
        "backend": _backend(services, found),
        "structural_limits": asdict(settings.limits.structural),
        "update_wait": {
            "completion_timeout_seconds": settings.update_wait_seconds,
            "poll_interval_milliseconds": _POLL_INTERVAL_MS,
        },
        "repair_policy": asdict(settings.repair_policy),
        "matching_role": _matching_role(services),
        "census": {
            "open_runs": census.runs,
            "open_run_limit": settings.metrics_open_run_limit,
            "open_run_limit_reached": found.cut,
        },
    }
    return Response(200, {"namespace": namespace, "operator_metrics": metrics})


def _age(since: int | None, now: int) -> int:
    return 0 if since is None else max(0, (now - since) // 1000)


def _pair(at: str, age: str, since: int | None, now: int) -> dict[str, Any]:
    """An `oldest_*` and a `max_*_ms` that belong together."""
    return {at: ts_or_none(since), age: _age(since, now)}


def _runs(found: Gathered) -> dict[str, Any]:
    reasons, census, at = found.reasons, found.census, found.at
    total = sum(reasons.values())
    return {
        "total": total,
        "current": total - found.superseded,
        "running": reasons.get(None, 0),
        "completed": reasons.get("completed", 0) + reasons.get("continued", 0),
        "failed": reasons.get("failed", 0) + reasons.get("timed_out", 0),
        "cancelled": reasons.get("cancelled", 0),
        "terminated": reasons.get("terminated", 0),
        "archived": found.archived,
        "repair_needed": census.repair_needed.count,
        **_pair("oldest_repair_needed_at", "max_repair_needed_age_ms", census.repair_needed.since, at),
        "claim_failed": 0,
        "compatibility_blocked": census.unserved.count,
        "waiting": census.waiting.count,
        **_pair("oldest_wait_started_at", "max_wait_age_ms", census.waiting.since, at),
    }


def _tasks(found: Gathered) -> dict[str, Any]:
    ready, census, at = found.ready, found.census, found.at
    expired, overdue_since = census.lease_expired, ready.oldest_available_at if ready.overdue else None
    times = [since for since in (overdue_since, expired.since) if since is not None]
    return {
        "open": ready.due + ready.later + census.leased,
        "ready": ready.due + ready.later,
        "ready_due": ready.due,
        "delayed": ready.later,
        "leased": census.leased,
        "dispatch_failed": 0,
        "claim_failed": 0,
        "dispatch_overdue": ready.overdue,
        "lease_expired": expired.count,
        **_pair("oldest_lease_expired_at", "max_lease_expired_age_ms", expired.since, at),
        **_pair("oldest_ready_due_at", "max_ready_due_age_ms", ready.oldest_available_at, at),
        **_pair("oldest_dispatch_overdue_since", "max_dispatch_overdue_age_ms", overdue_since, at),
        **_pair("oldest_claim_failed_at", "max_claim_failed_age_ms", None, at),
        **_pair("oldest_dispatch_failed_at", "max_dispatch_failed_age_ms", None, at),
        "max_attempt_count": max(census.most_task_attempts, census.most_activity_attempts),
        "max_repair_count": census.most_repairs,
        "unhealthy": ready.overdue + expired.count,
        **_pair("oldest_unhealthy_at", "max_unhealthy_age_ms", min(times, default=None), at),
    }


def _activities(found: Gathered) -> dict[str, Any]:
    census, at = found.census, found.at
    return {
        "open": census.activities_ready + census.activities_running,
        "pending": census.activities_ready,
        "running": census.activities_running,
        "retrying": census.retrying.count,
        **_pair("oldest_retrying_started_at", "max_retrying_age_ms", census.retrying.since, at),
        "timeout_overdue": census.overdue.count,
        **_pair("oldest_timeout_overdue_at", "max_timeout_overdue_age_ms", census.overdue.since, at),
        "failed_attempts": census.failed_attempts,
        "max_attempt_count": census.most_activity_attempts,
    }


def _backlog(found: Gathered) -> dict[str, Any]:
    ready, census, at = found.ready, found.census, found.at
    blocked = census.unserved
    return {
        "runnable_tasks": ready.due,
        "delayed_tasks": ready.later,
        "leased_tasks": census.leased,
        "tasks_added_last_minute": found.added,
        "tasks_dispatched_last_minute": found.dispatched,
        "retrying_activities": census.retrying.count,
        "unhealthy_tasks": ready.overdue + census.lease_expired.count,
        "repair_needed_runs": census.repair_needed.count,
        "claim_failed_runs": 0,
        "compatibility_blocked_runs": blocked.count,
        **_pair("oldest_compatibility_blocked_started_at", "max_compatibility_blocked_age_ms", blocked.since, at),
    }


def _schedules(found: Gathered) -> dict[str, Any]:
    schedules = found.schedules
    return {
        "active": schedules.active,
        "paused": schedules.paused,
        "missed": schedules.missed.count,
        **_pair("oldest_overdue_at", "max_overdue_ms", schedules.missed.since, found.at),
        "fires_total": schedules.fires,
        "failures_total": schedules.failures,
    }


def _history(found: Gathered, services: Services) -> dict[str, Any]:
    census, rules = found.census, services.settings.rules
    thresholds = {
        "event_threshold": rules.budget_events,
        "size_bytes_threshold": rules.budget_bytes,
        "fan_out_threshold": rules.budget_fan_out,
    }
    return {
        "continue_as_new_recommended_runs": census.past_budget,
        "approaching_budget_runs": census.near_budget,
        "events": census.events,
        "history_orphan_total": 0,
        "max_event_count": census.most_events,
        "max_size_bytes": census.most_bytes,
        "max_fan_out": census.most_fan_out,
        **thresholds,
        **{name.replace("_threshold", "_warning_threshold"): value * 4 // 5 for name, value in thresholds.items()},
    }


def _projection(name: str) -> dict[str, Any]:
    same: dict[str, Any] = {"needs_rebuild": 0, "oldest_updated_at": None, "newest_updated_at": None}
    return same | {"oldest_missing_run_started_at": None, "max_missing_run_age_ms": 0} if name == PROJECTIONS[0] else same


def _workers(found: Gathered, namespace: str, stale_after_seconds: int) -> dict[str, Any]:
    workers = sorted(found.workers, key=lambda worker: worker.worker_id)
    return {
        "compatibility_namespace": namespace,
        "required_compatibility": None,
        "active_workers": len(workers),
        "active_worker_scopes": len({(worker.task_queue, worker.build_id) for worker in workers}),
        "active_workers_supporting_required": len(workers),
        "fleet": [_fleet_entry(worker, stale_after_seconds) for worker in workers[:_MOST_WORKERS]],
        "fleet_truncated": len(workers) > _MOST_WORKERS,
    }


def _fleet_entry(worker: Worker, stale_after_seconds: int) -> dict[str, Any]:
    process = _process(worker)
    return {
        "worker_id": worker.worker_id,
        "namespace": worker.namespace,
        "host": process.get("host"),
        "process_id": process.get("process_id"),
        "connection": None,
        "queue": worker.task_queue,
        "supported": [worker.build_id] if worker.build_id else [],
        "supports_required": True,
        "recorded_at": ts(worker.last_heartbeat_at),
        "expires_at": ts(worker.last_heartbeat_at + stale_after_seconds * 1_000_000),
        "source": "worker_registration",
    }


def _process(worker: Worker) -> dict[str, Any]:
    """What the worker told of its process; nothing when that is no object."""
    told = msgspec.json.decode(worker.process_metrics or "null")
    return told if isinstance(told, dict) else {}


def _backend(services: Services, found: Gathered) -> dict[str, Any]:
    trouble = services.events_trouble()
    queue_issues = [] if trouble is None else [{"code": "event_stream_stands_still", "message": trouble}]
    parts: dict[str, dict[str, Any]] = {
        "database": {"connection": "postgres", "driver": "pgsql"},
        "queue": {"connection": "nats", "driver": "jetstream"},
        "cache": {"store": services.settings.cache_store, "driver": services.settings.cache_store},
        "codec": {"connection": None, "driver": "avro"},
    }
    for name, part in parts.items():
        issues = queue_issues if name == "queue" else []
        part.update({"supported": True, "capabilities": _CAPABILITIES[name], "issues": issues})
    return {
        "generated_at": ts(found.at),
        "supported": True,
        **parts,
        "structural_limits": asdict(services.settings.limits.structural),
        "severity": "warning" if queue_issues else "ok",
        "issues": queue_issues,
    }


def _matching_role(services: Services) -> dict[str, Any]:
    settings = services.settings
    return {
        "queue_wake_enabled": False,
        "shape": "dedicated",
        "wake_owner": "dedicated_repair_pass",
        "task_dispatch_mode": "poll",
        "partition_primitives": ["connection", "queue", "compatibility", "namespace"],
        "backpressure_model": "lease_ownership",
        "discovery_limits": {
            "poll_batch_cap": 1,
            "availability_ceiling_seconds": settings.poll_timeout_seconds,
            "wake_signal_ttl_seconds": max(settings.poll_timeout_seconds + 5, 60),
            "workflow_task_lease_seconds": settings.rules.workflow_task_lease,
            "activity_task_lease_seconds": settings.rules.activity_task_lease,
        },
    }
