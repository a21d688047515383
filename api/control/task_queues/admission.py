"""What of its budgets a task queue has used: the object `admission` (contract operations 2.2, control-plane 7.3)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from actors.queue.admission import scopes
from actors.queue.admission.caps import AdmissionRules, Cap, Caps
from actors.queue.poll import QueueName
from actors.run.words import TaskKind
from store import admission
from store.connections.pool import Database

KINDS: Sequence[TaskKind] = ("workflow", "activity")


@dataclass(frozen=True, slots=True)
class Use:
    """Tasks of one kind in one queue, as the queue's statistics count them (operations 2.1).

    `workers`: not stale and active ones, `slots`: what they declare together. `active`: leases that have not run out; of
    those in the whole namespace `namespace_active`. Where leases are capped their places count instead.
    """

    workers: int = 0
    slots: int = 0
    leased: int = 0
    ready: int = 0
    active: int = 0
    namespace_active: int = 0


@dataclass(frozen=True, slots=True)
class Queries:
    """Query tasks of one queue. `usable`: whether the node that has them could be asked."""

    most: int
    pending: int
    usable: bool = True


Counts = Mapping[str, int]  # places taken, by scope


async def count(db: Database, rules: AdmissionRules, namespace: str, queues: Iterable[str], now: int) -> Counts:
    """How many places are taken under the caps of these queues at `now` (microseconds); reads only where there are caps.

    Raises what reads over `db` raise.
    """
    names: set[str] = set()
    for queue in queues:
        for kind in KINDS:
            caps = rules.caps_of(namespace, queue, kind)
            if caps is not None:
                names.update(scope for scope, _ in _scopes(QueueName(namespace, queue, kind), caps, now))
    return await admission.counts(db, sorted(names)) if names else {}


def _scopes(name: QueueName, caps: Caps, now: int) -> list[scopes.Scope]:
    return scopes.of_leases(name, caps) + scopes.of_dispatches(name, caps, scopes.minute_of(now))


def admission_of(
    rules: AdmissionRules, namespace: str, queue: str, now: int, uses: Mapping[str, Use], counts: Counts, queries: Queries
) -> dict[str, Any]:
    """The object `admission` of a queue: `uses` by kind, `counts` of `count` at the same `now` (microseconds)."""
    shown: dict[str, Any] = {
        f"{kind}_tasks": _tasks(
            QueueName(namespace, queue, kind), kind, rules.told_of(namespace, queue, kind), now, uses.get(kind, Use()), counts
        )
        for kind in KINDS
    }
    return {**shown, "query_tasks": _queries(queries)}


def _tasks(name: QueueName, kind: TaskKind, caps: Caps, now: int, use: Use, counts: Counts) -> dict[str, Any]:
    namespace, queue, _ = name
    minute = scopes.minute_of(now)

    def used(cap: Cap, scope: str, otherwise: int = 0) -> tuple[int, int | None, int | None]:
        """How much of a cap is used, the cap, and what is left of it."""
        taken = otherwise if cap.most is None else counts.get(scope, 0)
        return taken, cap.most, None if cap.most is None else max(cap.most - taken, 0)

    leases, leases_cap, leases_left = used(caps.queue_leases, scopes.queue_leases(namespace, queue, kind), use.active)
    all_leases, all_leases_cap, all_leases_left = used(
        caps.namespace_leases, scopes.namespace_leases(namespace, kind), use.namespace_active
    )
    dispatched, dispatch_cap, dispatch_left = used(
        caps.queue_dispatches, scopes.queue_dispatches(namespace, queue, kind, minute)
    )
    all_dispatched, all_dispatch_cap, all_dispatch_left = used(
        caps.namespace_dispatches, scopes.namespace_dispatches(namespace, kind, minute)
    )
    group_dispatched, group_cap, group_left = used(
        caps.group_dispatches, scopes.group_dispatches(namespace, caps.group or "", kind, minute)
    )
    left = (leases_left, all_leases_left, dispatch_left, all_dispatch_left, group_left)
    return {
        "budget_source": f"worker_registration.max_concurrent_{kind}_tasks",
        "server_budget_source": caps.source,
        "active_worker_count": use.workers,
        "configured_slot_count": use.slots,
        "leased_count": use.leased,
        "ready_count": use.ready,
        "available_slot_count": max(use.slots - use.leased, 0),
        "server_max_active_leases_per_queue": leases_cap,
        "server_active_lease_count": leases,
        "server_remaining_active_lease_capacity": leases_left,
        "server_max_active_leases_per_namespace": all_leases_cap,
        "server_namespace_active_lease_count": all_leases,
        "server_remaining_namespace_active_lease_capacity": all_leases_left,
        "server_max_dispatches_per_minute": dispatch_cap,
        "server_dispatch_count_this_minute": dispatched,
        "server_remaining_dispatch_capacity": dispatch_left,
        "server_max_dispatches_per_minute_per_namespace": all_dispatch_cap,
        "server_namespace_dispatch_count_this_minute": all_dispatched,
        "server_remaining_namespace_dispatch_capacity": all_dispatch_left,
        "server_dispatch_budget_group": caps.group,
        "server_max_dispatches_per_minute_per_budget_group": group_cap,
        "server_budget_group_dispatch_count_this_minute": group_dispatched,
        "server_remaining_budget_group_dispatch_capacity": group_left,
        "server_lock_required": caps.any,
        "server_lock_supported": True,  # the database decides, for all nodes
        "status": _status(use, throttled=0 in left),
    }


def _status(use: Use, *, throttled: bool) -> str:
    if throttled:
        return "throttled"
    if not use.workers:
        return "no_active_workers"
    if not use.slots:
        return "no_slots"
    return "saturated" if use.leased >= use.slots else "accepting"


def _queries(queries: Queries) -> dict[str, Any]:
    left = max(queries.most - queries.pending, 0)
    return {
        "budget_source": "server.query_tasks.max_pending_per_queue",
        "max_pending_per_queue": queries.most,
        "approximate_pending_count": queries.pending,
        "remaining_pending_capacity": left,
        "lock_required": True,
        "lock_supported": True,
        "status": "unavailable" if not queries.usable else "accepting" if left else "full",
    }
