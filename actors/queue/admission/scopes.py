"""The names of what caps count in: one scope per cap, and per minute where dispatches are counted (contract operations 2.4).

Namespaces have no slash, so no two scopes share a name. Scopes of leases begin with an l (`Permit.ends`), those of dispatches
with their minute since the epoch in nine digits: those of past minutes lie together in the table.
"""

from __future__ import annotations

from actors.queue.admission.caps import Caps
from actors.queue.poll import QueueName
from actors.run.times import SECOND

MINUTE = 60 * SECOND

LEASES = "l", "m"  # scopes of leases lie between these

Scope = tuple[str, int]  # name and cap


def minute_of(now: int) -> int:
    """The calendar minute in UTC, since the epoch. `now`: microseconds."""
    return now // MINUTE


def shared(scope: str) -> bool:
    """Whether several queues count in it, perhaps of several nodes."""
    return scope[1:2] == "n" or scope[11:12] in ("n", "g")


def past(minute: int) -> tuple[str, str]:
    """Between what the scopes of all minutes before this one lie."""
    return "d", f"d{minute:09d}"


def of_leases(name: QueueName, caps: Caps) -> list[Scope]:
    """The scopes a lease of this queue counts in."""
    namespace, queue, kind = name
    return _capped(
        (queue_leases(namespace, queue, kind), caps.queue_leases.most),
        (namespace_leases(namespace, kind), caps.namespace_leases.most),
    )


def of_dispatches(name: QueueName, caps: Caps, minute: int) -> list[Scope]:
    """The scopes a dispatch of this queue counts in during a minute."""
    namespace, queue, kind = name
    return _capped(
        (queue_dispatches(namespace, queue, kind, minute), caps.queue_dispatches.most),
        (namespace_dispatches(namespace, kind, minute), caps.namespace_dispatches.most),
        (group_dispatches(namespace, caps.group or "", kind, minute), caps.group_dispatches.most),
    )


def _capped(*scopes: tuple[str, int | None]) -> list[Scope]:
    return [(name, most) for name, most in scopes if most is not None]


def queue_leases(namespace: str, queue: str, kind: str) -> str:
    return f"lq.{kind}.{namespace}/{queue}"


def namespace_leases(namespace: str, kind: str) -> str:
    return f"ln.{kind}.{namespace}/"


def queue_dispatches(namespace: str, queue: str, kind: str, minute: int) -> str:
    return f"d{minute:09d}.q.{kind}.{namespace}/{queue}"


def namespace_dispatches(namespace: str, kind: str, minute: int) -> str:
    return f"d{minute:09d}.n.{kind}.{namespace}/"


def group_dispatches(namespace: str, group: str, kind: str, minute: int) -> str:
    return f"d{minute:09d}.g.{kind}.{namespace}/{group}"
