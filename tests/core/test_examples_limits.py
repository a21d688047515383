"""Every structural limit at its value and over it (engine-semantics 11.1)."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any

import pytest

from actors.run.commands.control import SignalRun, UpdateRun
from actors.run.commands.steps import (
    CompleteUpdate,
    FailUpdate,
    RecordSideEffect,
    StartTimer,
    UpsertSearchAttributes,
    WorkflowCommand,
)
from actors.run.replies import CommandAnswered
from actors.run.rules import RequestLimits, Rules, StructuralLimits
from actors.run.values import Payload
from tests.core.family import end, of_type, parent_of, refused, rejected
from tests.core.harness import PLAIN, RunModel, activity, blob, child, completion, finish, onward, wait
from tests.support.defaults import make_rules


@dataclass
class Limit:
    """Steps that just fit under a rule, and steps that do not."""

    rules: Rules
    fits: list[WorkflowCommand]
    over: list[WorkflowCommand]
    kind: str
    value: int
    configured: int
    before: list[WorkflowCommand] = field(default_factory=list)


def timer() -> StartTimer:
    return StartTimer(900)


def side_effect(value: str = "V") -> RecordSideEffect:
    return RecordSideEffect(blob(value))


def attributes(**change: Any) -> UpsertSearchAttributes:
    return UpsertSearchAttributes(change)


ACTIVITIES = make_rules(pending_activity_count=2)
TIMERS = make_rules(pending_timer_count=2)
CHILDREN = make_rules(pending_child_count=2)
COMMANDS = make_rules(command_batch_size=2)
PAYLOAD = make_rules(payload_size_bytes=4)
ATTRIBUTES = make_rules(search_attribute_size_bytes=len('{"a":"xx"}'))
NAMES = make_rules(max_search_attributes=2)
EVENTS = make_rules(history_transaction_size=3)
# The start, the first activity and the update that makes a task.
HISTORY = make_rules(history_events=6)

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
    "attribute names": Limit(
        NAMES,
        [attributes(a=1), attributes(b=1), attributes(c=1, a=None)],
        [attributes(a=1, b=1), attributes(c=1)],
        "search_attribute_count",
        3,
        2,
    ),
    "events": Limit(EVENTS, [timer()] * 3, [timer()] * 4, "history_transaction_size", 4, 3),
    "events of children": Limit(EVENTS, [child(), timer()], [child(), child()], "history_transaction_size", 4, 3),
    "events of waits": Limit(
        EVENTS, [timer(), wait(timeout=9)], [timer(), timer(), wait(timeout=9)], "history_transaction_size", 4, 3
    ),
    "history": Limit(HISTORY, [timer()] * 2, [timer()] * 3, "history_event_count", 7, 6, [activity()]),
}


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
    names = [field.name for each in (RequestLimits, StructuralLimits) for field in dataclasses.fields(each)]
    off = {name: 0 for name in [*names, "history_events"] if name != "warning_threshold_percent"}
    run = with_task(limit, make_rules(**off))
    run.batch(*limit.over, worker=PLAIN)
    assert run.new


def with_task(limit: Limit, rules: Rules | None = None) -> RunModel:
    """A run that did the limit's first steps, its next workflow task ready: an update makes one while all of them wait."""
    run = RunModel(rules or limit.rules)
    if limit.before:
        run.batch(*limit.before, worker=PLAIN)
        if all(row.kind != "workflow" for row in run.rows.values()):
            run.update()
    return run


# -- what is counted ---------------------------------------------------------------------------------------------------


def test_what_is_finished_makes_room() -> None:
    family = parent_of(child(), rules=CHILDREN)
    parent = family.root
    end(family, family.children_of(parent)[0], finish())
    parent.batch(child("b"), child("c"))
    assert len(of_type(parent, "ChildWorkflowScheduled")) == 3
    run = RunModel(TIMERS)
    run.batch(StartTimer(5), StartTimer(5))
    run.pass_time(5)
    run.wake()
    run.batch(timer(), timer())
    assert len(run.state.timers) == 2


def test_the_timeout_of_a_wait_counts_until_the_wait_is_settled() -> None:
    run = RunModel(make_rules(pending_timer_count=1))
    run.batch(wait(timeout=60))
    status = run.update()
    grant = run.claim(PLAIN)
    # An update's task leaves the wait as it is.
    assert refused(run, completion(grant, timer()), "structural_limit_exceeded")["limit_kind"] == "pending_timer_count"
    run.complete(grant, CompleteUpdate(status.update_id))
    # A normal task ends it: opened again, its old timeout is gone.
    run.batch(wait(timeout=60), worker=PLAIN)
    assert run.new_types == ["ConditionWaitOpened", "TimerScheduled"]
    run.signal()
    run.batch(timer())
    assert run.new_types == ["ConditionWaitSatisfied", "TimerCancelled", "TimerScheduled"]


def test_a_batch_sent_again_is_over_no_limit() -> None:
    run = RunModel(make_rules(pending_activity_count=2, history_events=8, history_transaction_size=2))
    run.batch(activity("a"), activity("b"))
    run.succeed(run.claim_activity())
    run.batch(activity("a"), activity("b"))
    assert run.new == [] and len(run.history) == 6


@pytest.mark.parametrize("value", ["1234", "12345"])
def test_results_of_updates(value: str) -> None:
    run = RunModel(make_rules(payload_size_bytes=4))
    run.batch(timer())
    status = run.update(arguments=None)
    grant = run.claim()
    answer = completion(grant, CompleteUpdate(status.update_id, blob(value)))
    if len(value) > 4:
        detail = refused(run, answer, "structural_limit_exceeded")
        assert (detail["limit_kind"], detail["current_value"]) == ("payload_size", 5)
        run.complete(grant, FailUpdate(status.update_id, "too big"))
    else:
        run.tell(answer)
    assert run.new_types[-1] == "UpdateCompleted"


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_inputs_of_a_run(limit: int) -> None:
    run = RunModel(make_rules(pending_signal_count=limit, pending_update_count=limit))
    run.batch(timer())
    for _ in range(limit or 10):
        run.signal()
        run.update()
    if limit:
        rejected(run, SignalRun(name="more"), "structural_limit_exceeded", None)
        answer = run.expect(CommandAnswered, UpdateRun(name="more"))
        assert answer.rejection == "structural_limit_exceeded" and run.new_types == ["UpdateRejected"]
    assert (len(run.state.signals), len(run.state.updates)) == (limit or 10,) * 2


def test_the_end_is_refused_for_its_size_and_its_batch_but_not_for_the_length_of_history() -> None:
    run = RunModel(make_rules(history_events=2, payload_size_bytes=4, command_batch_size=1))
    grant = run.claim()
    for steps, kind in (([finish("12345")], "payload_size"), ([side_effect(), finish("1")], "command_batch_size")):
        assert refused(run, completion(grant, *steps), "structural_limit_exceeded")["limit_kind"] == kind
    run.complete(grant, finish("1234"))
    assert run.new_types == ["WorkflowCompleted"]


def test_what_the_server_records_is_never_refused() -> None:
    run = RunModel(make_rules(history_events=3))
    run.batch(StartTimer(5))
    run.signal()
    run.pass_time(5)
    run.wake()
    assert run.new_types == ["TimerFired"] and len(run.history) == 5
    assert refused(run, completion(run.claim(), wait()), "structural_limit_exceeded") == {
        "limit_kind": "history_event_count",
        "current_value": 6,
        "configured_limit": 3,
    }


# -- warnings: noted for the log, never in the way -----------------------------------------------------------------------------


def test_a_count_is_noted_once_as_it_comes_near() -> None:
    run = RunModel(
        make_rules(
            pending_activity_count=10,
            pending_signal_count=5,
            pending_update_count=4,
            warning_threshold_percent=70,
        )
    )
    run.batch(*[activity() for _ in range(6)], wait())
    assert run.near == []
    run.signal()
    run.batch(*[activity() for _ in range(3)], wait())
    assert run.near == [("pending_activity_count", 7, 10)]
    noted = []
    for _ in range(4):
        run.signal()
        noted += run.near
        run.update()
        noted += run.near
    assert noted == [("pending_update_count", 3, 4), ("pending_signal_count", 4, 5)]


def test_a_size_is_noted_whenever_it_is_near() -> None:
    rules = make_rules(
        payload_size_bytes=10,
        command_batch_size=5,
        history_transaction_size=9,
        search_attribute_size_bytes=20,
        memo_size_bytes=20,
    )
    run = RunModel(rules, memo={"k": "123456789"}, search_attributes={"a": "123456789"})
    assert run.near == [("memo_size", 17, 20), ("search_attribute_size", 17, 20)]
    for _ in range(2):
        run.batch(side_effect("12345678"), timer())
        assert run.near == [("payload_size", 8, 10)]
        run.signal()
        run.pass_time(900)
        run.wake()
    run.batch(attributes(b=None), side_effect("1"), side_effect("1"), activity())
    assert run.near == [("command_batch_size", 4, 5), ("search_attribute_size", 17, 20)]


def test_nothing_is_noted_of_a_batch_that_is_refused_or_with_warnings_off() -> None:
    run = RunModel(make_rules(pending_activity_count=2))
    refused(run, completion(run.claim(), activity(), activity(), activity()), "structural_limit_exceeded")
    assert run.near == []
    off = RunModel(
        make_rules(pending_activity_count=2, command_batch_size=2, payload_size_bytes=4, warning_threshold_percent=0)
    )
    off.batch(activity(), activity())
    assert off.near == []
