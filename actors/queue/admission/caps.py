"""Which caps hold for a task queue, and where each comes from (contract operations 2.3). Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from actors.run.words import TaskKind

OVERRIDES = "server.admission.queue_overrides"
_MOST = 2**31 - 1  # numbers of places are stored in four bytes
_ABSENT = object()

# The names of the fields in an entry of the overrides; the first one that stands there counts.
_NAMES = {
    "queue_leases": ("max_active_leases", "max_active_leases_per_queue"),
    "namespace_leases": ("max_active_leases_per_namespace",),
    "queue_dispatches": ("max_dispatches_per_minute",),
    "namespace_dispatches": ("max_dispatches_per_minute_per_namespace",),
    "group": ("dispatch_budget_group", "budget_group"),
    "group_dispatches": ("max_dispatches_per_minute_per_budget_group",),
}
# What stands at the end of a source, after the kind.
_SETTINGS = {
    "queue_leases": "max_active_leases_per_queue",
    "namespace_leases": "max_active_leases_per_namespace",
    "queue_dispatches": "max_dispatches_per_minute",
    "namespace_dispatches": "max_dispatches_per_minute_per_namespace",
}


@dataclass(frozen=True, slots=True)
class KindCaps:
    """What the variables say for tasks of one kind, None: no cap."""

    queue_leases: int | None = None
    namespace_leases: int | None = None
    queue_dispatches: int | None = None
    namespace_dispatches: int | None = None


@dataclass(frozen=True, slots=True)
class Cap:
    """One number, None: no cap; and the setting that says so."""

    most: int | None
    source: str


@dataclass(frozen=True, slots=True)
class Caps:
    """The caps of the tasks of one kind in one queue. Dispatches are per minute; those of `group` count where it is set."""

    queue_leases: Cap
    namespace_leases: Cap
    queue_dispatches: Cap
    namespace_dispatches: Cap
    group: str | None
    group_dispatches: Cap

    def each(self) -> Iterator[Cap]:
        """All of them, in the order in which sources are named (operations 2.2)."""
        yield from (self.queue_leases, self.namespace_leases, self.queue_dispatches, self.namespace_dispatches)
        yield self.group_dispatches

    @property
    def any(self) -> bool:
        """Whether there is a cap at all."""
        return any(cap.most is not None for cap in self.each())

    @property
    def source(self) -> str:
        """Where the caps in force come from; without any, where one of the queue's leases would (operations 2.2)."""
        found = dict.fromkeys(cap.source for cap in self.each() if cap.most is not None)
        return ";".join(found) or self.queue_leases.source


class AdmissionRules:
    """The caps of a deployment, as configured.

    `overrides`: entries by `namespace:queue`, `namespace:*`, `queue` or `*`, each with an object per kind. What is no object
    there is ignored, a number that is none is no cap.
    """

    def __init__(
        self, workflow: KindCaps | None = None, activity: KindCaps | None = None, overrides: Mapping[str, Any] | None = None
    ) -> None:
        self._variables = {"workflow": workflow or KindCaps(), "activity": activity or KindCaps()}
        self._overrides = overrides or {}

    @property
    def none(self) -> bool:
        """Whether nothing is capped anywhere, whatever the queue."""
        set_somewhere = any(getattr(caps, each.name) for caps in self._variables.values() for each in fields(caps))
        return not set_somewhere and not self._overrides

    def caps_of(self, namespace: str, queue: str, kind: TaskKind) -> Caps | None:
        """The caps of a queue, None when nothing is capped there."""
        caps = self.told_of(namespace, queue, kind)
        return caps if caps.any else None

    def told_of(self, namespace: str, queue: str, kind: TaskKind) -> Caps:
        """What is said of a queue, caps or none."""
        entries = [
            part
            for key in (f"{namespace}:{queue}", f"{namespace}:*", queue, "*")
            if isinstance(part := _part(self._overrides.get(key), f"{kind}_tasks"), Mapping)
        ]
        group = _text(_first(entries, "group"))
        group_dispatches = _number(_first(entries, "group_dispatches")) if group is not None else None
        return Caps(
            queue_leases=self._cap(entries, kind, "queue_leases"),
            namespace_leases=self._cap(entries, kind, "namespace_leases"),
            queue_dispatches=self._cap(entries, kind, "queue_dispatches"),
            namespace_dispatches=self._cap(entries, kind, "namespace_dispatches"),
            group=group,
            group_dispatches=Cap(group_dispatches, OVERRIDES),
        )

    def _cap(self, entries: list[Mapping[str, Any]], kind: TaskKind, name: str) -> Cap:
        value = _first(entries, name)
        if value is _ABSENT or value is None:
            most: int | None = getattr(self._variables[kind], name)
            return Cap(None if most is None else min(most, _MOST), f"server.admission.{kind}_tasks.{_SETTINGS[name]}")
        return Cap(_number(value), OVERRIDES)


def _part(entry: Any, kind: str) -> Any:
    return entry.get(kind) if isinstance(entry, Mapping) else None


def _first(entries: list[Mapping[str, Any]], name: str) -> Any:
    """What the first entry that has the field says, `_ABSENT` when none has."""
    for entry in entries:
        for alias in _NAMES[name]:
            if alias in entry:
                return entry[alias]
    return _ABSENT


def _number(value: Any) -> int | None:
    """A cap: a positive whole number, or its digits as text. Anything else is none."""
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = int(value.strip()[:20])
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        return None
    return min(value, _MOST)


def _text(value: Any) -> str | None:
    return value.strip() or None if isinstance(value, str) else None
