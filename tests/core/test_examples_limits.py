"""Every structural limit at its value and over it (engine-semantics 11.1)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest

from actors.run.commands import (
    Payload,
    RecordSideEffect,
    StartTimer,
    Steps,
    UpsertSearchAttributes,
)
from actors.run.rules import Rules
from tests.core.family import refused
from tests.core.harness import PLAIN, Run, activity, blob, child, completion, finish, onward, wait


@dataclass
class Limit:
    """Steps that just fit under a rule, and steps that do not."""

    rules: Rules
    fits: list[Steps]
    over: list[Steps]
    kind: str
    value: int
    configured: int
    before: list[Steps] = field(default_factory=list)


def timer() -> StartTimer:
    return StartTimer(900)


def side_effect(value: str = "V") -> RecordSideEffect:
    return RecordSideEffect(blob(value))


def attributes(**change: Any) -> UpsertSearchAttributes:
    return UpsertSearchAttributes(change)


ACTIVITIES = Rules(max_pending_activities=2)
TIMERS = Rules(max_pending_timers=2)
CHILDREN = Rules(max_pending_children=2)
COMMANDS = Rules(max_batch_commands=2)
PAYLOAD = Rules(max_payload_bytes=4)
ATTRIBUTES = Rules(max_search_attribute_bytes=len('{"a":"xx"}'))
EVENTS = Rules(max_transaction_events=3)
# Start, and the activity of the first batch.
HISTORY = Rules(max_history_events=5)

LIMITS: dict[str, Limit] = {
    "activities": Limit(ACTIVITIES, [activity()], [activity()] * 2, "pending_activity_count", 2, 2, [activity()]),
    "activities at once": Limit(ACTIVITIES, [activity()] * 2, [activity()] * 3, "pending_activity_count", 2, 2),
    "activities far over": Limit(ACTIVITIES, [timer()], [activity()], "pending_activity_count", 2, 2, [activity()] * 2),
    "timers": Limit(TIMERS, [timer()], [timer()] * 2, "pending_timer_count", 2, 2, [timer()]),
    "timers at once": Limit(TIMERS, [timer()] * 2, [timer()] * 3, "pending_timer_count", 2, 2),
    "a wait's timeout": Limit(
        TIMERS, [timer(), wait(timeout=9)], [timer(), timer(), wait(timeout=9)], "pending_timer_count", 2, 2
    ),
    "a wait without timeout": Limit(TIMERS, [timer(), timer(), wait(timeout=0)], [timer()] * 3, "pending_timer_count", 2, 2),
    "children": Limit(CHILDREN, [child()], [child()] * 2, "pending_child_count", 2, 2, [child()]),
    "children at once": Limit(CHILDREN, [child()] * 2, [child()] * 3, "pending_child_count", 2, 2),
    "commands": Limit(COMMANDS, [timer()] * 2, [timer()] * 3, "command_batch_size", 3, 2),
    "commands, the last one too": Limit(
        COMMANDS, [timer(), finish()], [timer(), timer(), finish()], "command_batch_size", 3, 2
    ),
    "arguments": Limit(PAYLOAD, [activity(arguments=blob("1234"))], [activity(arguments=blob("12345"))], "payload_size", 5, 4),
    "bytes, not characters": Limit(
        PAYLOAD, [activity(arguments=blob('"é"', "json"))], [activity(arguments=blob('"éé"', "json"))], "payload_size", 6, 4
    ),
    "a child's arguments": Limit(
        PAYLOAD, [child(arguments=blob("1234"))], [child(arguments=blob("12345"))], "payload_size", 5, 4
    ),
    "a side effect": Limit(PAYLOAD, [side_effect("1234")], [side_effect("12345")], "payload_size", 5, 4),
    "a result": Limit(PAYLOAD, [finish("1234")], [finish("12345")], "payload_size", 5, 4),
    "the next run's arguments": Limit(PAYLOAD, [onward("1234")], [onward("12345")], "payload_size", 5, 4),
    "a payload kept elsewhere": Limit(
        PAYLOAD,
        [activity(arguments=Payload("avro", None, {"uri": "far-longer-than-four"}))],
        [activity(arguments=blob("123456"))],
        "payload_size",
        6,
        4,
    ),
    "attributes": Limit(ATTRIBUTES, [attributes(a="xx")], [attributes(a="xxx")], "search_attribute_size", 11, 10),
    "attributes merged": Limit(
        ATTRIBUTES, [attributes(a=None, b="xx")], [attributes(b=1)], "search_attribute_size", 16, 10, [attributes(a="xx")]
    ),
    "attributes in between": Limit(
        ATTRIBUTES, [attributes(a="xx")], [attributes(a="xxx"), attributes(a=None)], "search_attribute_size", 11, 10
    ),
    "events": Limit(EVENTS, [timer()] * 3, [timer()] * 4, "history_transaction_size", 4, 3),
    "events of children": Limit(EVENTS, [child(), timer()], [child(), child()], "history_transaction_size", 4, 3),
    "events of waits": Limit(
        EVENTS, [timer(), wait(timeout=9)], [timer(), timer(), wait(timeout=9)], "history_transaction_size", 4, 3
    ),
    "history": Limit(HISTORY, [timer()] * 2, [timer()] * 3, "history_event_count", 6, 5, [activity()]),
}


def reached(limit: Limit) -> Run:
    """A run that has the limit's steps behind it, its next normal task leased."""
    run = Run(limit.rules)
    if limit.before:
        grant = run.claim(PLAIN)
        # A side effect by itself leaves nothing open, an input wakes a run that has something open.
        status = None if isinstance(limit.before[0], UpsertSearchAttributes) else run.signal()
        run.complete(grant, *limit.before)
        assert status is None or run.rows.keys() or True
    return run


@pytest.mark.parametrize("name", LIMITS)
def test_a_batch_over_a_limit_is_refused_whole_and_the_lease_stays(name: str) -> None:
    limit = LIMITS[name]
    run = with_task(limit)
    grant = run.claim(PLAIN)
    expected = {"limit_kind": limit.kind, "current_value": limit.value, "configured_limit": limit.configured}
    for _ in range(2):
        assert refused(run, completion(grant, *limit.over), "structural_limit_exceeded") == expected
    assert run.state.open_task is not None and run.state.open_task.status == "leased"
    run.complete(grant, *limit.fits)


@pytest.mark.parametrize("name", LIMITS)
def test_zero_switches_a_limit_off(name: str) -> None:
    limit = LIMITS[name]
    off = {key: 0 for key, value in msgspec.structs.asdict(limit.rules).items() if key.startswith("max_")}
    run = with_task(limit, msgspec.structs.replace(limit.rules, **off))
    run.batch(*limit.over, worker=PLAIN)
    assert run.new


def with_task(limit: Limit, rules: Rules | None = None) -> Run:
    """A run that did the limit's first steps, with a normal task ready for the next ones."""
    run = Run(rules or limit.rules)
    if limit.before:
        run.batch(*limit.before, worker=PLAIN)
        if not run.rows or run.row_kinds() == {"activity"}:
            wake(run)
    return run


# -- what is counted ---------------------------------------------------------------------------------------------------
