"""The object `admission` of a task queue (contract operations 2.2, control-plane 7.3)."""

from __future__ import annotations

from typing import Any

import pytest

from actors.queue.admission import scopes
from actors.queue.admission.caps import OVERRIDES, AdmissionRules, KindCaps
from api.control.task_queues.admission import Counts, Queries, Use, admission_of

NOW = 1_777_000_000_000_000
MINUTE = scopes.minute_of(NOW)
QUERIES = Queries(1024, 0)
BUSY = Use(workers=2, slots=30, leased=7, ready=4, active=6, namespace_active=9)


def shown(rules: AdmissionRules, use: Use, counts: Counts | None = None, queries: Queries = QUERIES) -> dict[str, Any]:
    return admission_of(rules, "acme", "billing", NOW, {"workflow": use, "activity": use}, counts or {}, queries)


def test_without_caps_it_tells_of_workers_and_leases() -> None:
    tasks = shown(AdmissionRules(), BUSY)["workflow_tasks"]
    assert tasks["budget_source"] == "worker_registration.max_concurrent_workflow_tasks"
    assert tasks["server_budget_source"] == "server.admission.workflow_tasks.max_active_leases_per_queue"
    assert (tasks["active_worker_count"], tasks["configured_slot_count"]) == (2, 30)
    assert (tasks["leased_count"], tasks["ready_count"], tasks["available_slot_count"]) == (7, 4, 23)
    assert (tasks["server_active_lease_count"], tasks["server_namespace_active_lease_count"]) == (6, 9)
    assert tasks["status"] == "accepting"
    assert (tasks["server_lock_required"], tasks["server_lock_supported"]) == (False, True)
    caps = [name for name in tasks if name.startswith(("server_max", "server_remaining"))]
    assert len(caps) == 10 and not any(tasks[name] is not None for name in caps)
    assert tasks["server_dispatch_budget_group"] is None and tasks["server_dispatch_count_this_minute"] == 0


def test_with_every_cap_it_counts_places() -> None:
    overrides = {
        "billing": {"activity_tasks": {"dispatch_budget_group": "psp", "max_dispatches_per_minute_per_budget_group": 9}}
    }
    rules = AdmissionRules(activity=KindCaps(10, 20, 30, 40), overrides=overrides)
    counts = {
        scopes.queue_leases("acme", "billing", "activity"): 3,
        scopes.namespace_leases("acme", "activity"): 21,
        scopes.queue_dispatches("acme", "billing", "activity", MINUTE): 5,
        scopes.namespace_dispatches("acme", "activity", MINUTE): 6,
        scopes.group_dispatches("acme", "psp", "activity", MINUTE): 7,
    }
    tasks = shown(rules, BUSY, counts)["activity_tasks"]
    assert tasks["server_budget_source"].split(";")[-1] == OVERRIDES and tasks["server_budget_source"].count(";") == 4
    assert [tasks[f"server_{name}"] for name in ("active_lease_count", "max_active_leases_per_queue")] == [3, 10]
    assert tasks["server_remaining_active_lease_capacity"] == 7
    assert tasks["server_namespace_active_lease_count"] == 21
    assert tasks["server_remaining_namespace_active_lease_capacity"] == 0, "floored: the cap was lowered"
    assert (tasks["server_dispatch_count_this_minute"], tasks["server_remaining_dispatch_capacity"]) == (5, 25)
    assert tasks["server_namespace_dispatch_count_this_minute"] == 6
    assert tasks["server_remaining_namespace_dispatch_capacity"] == 34
    assert tasks["server_dispatch_budget_group"] == "psp"
    assert tasks["server_budget_group_dispatch_count_this_minute"] == 7
    assert tasks["server_remaining_budget_group_dispatch_capacity"] == 2
    assert (tasks["server_lock_required"], tasks["status"]) == (True, "throttled")
    assert shown(rules, BUSY, counts)["workflow_tasks"]["server_lock_required"] is False


@pytest.mark.parametrize(
    ("use", "status"),
    [
        (Use(), "no_active_workers"),
        (Use(workers=1), "no_slots"),
        (Use(workers=1, slots=5, leased=5), "saturated"),
        (Use(workers=1, slots=5, leased=4), "accepting"),
    ],
)
def test_the_first_reason_is_the_status(use: Use, status: str) -> None:
    assert shown(AdmissionRules(), use)["workflow_tasks"]["status"] == status
    full = {scopes.queue_leases("acme", "billing", "workflow"): 1}
    assert shown(AdmissionRules(KindCaps(queue_leases=1)), use, full)["workflow_tasks"]["status"] == "throttled"


@pytest.mark.parametrize(
    ("queries", "left", "status"),
    [(Queries(5, 4), 1, "accepting"), (Queries(5, 6), 0, "full"), (Queries(5, 0, usable=False), 5, "unavailable")],
)
def test_query_tasks(queries: Queries, left: int, status: str) -> None:
    tasks = shown(AdmissionRules(), BUSY, queries=queries)["query_tasks"]
    assert tasks == {
        "budget_source": "server.query_tasks.max_pending_per_queue",
        "max_pending_per_queue": 5,
        "approximate_pending_count": queries.pending,
        "remaining_pending_capacity": left,
        "lock_required": True,
        "lock_supported": True,
        "status": status,
    }
