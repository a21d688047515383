"""Steps resolved by being recorded: side effects, version markers, search attributes (engine-semantics 2.5, 3.1, 12.2)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from actors.run.commands.steps import (
    FailWorkflow,
    RecordSideEffect,
    RecordVersionMarker,
    ScheduleActivity,
    StartTimer,
    UpsertSearchAttributes,
    WorkflowCommand,
)
from actors.run.decide import decide
from actors.run.lifecycle import starting
from actors.run.state import decode
from actors.run.times import Micros
from actors.run.transition import Transition
from actors.run.values import Payload
from tests.core.family import keys, of_type, refused, types
from tests.core.harness import (
    PLAIN,
    PYTHON,
    START,
    RunModel,
    activity,
    blob,
    child,
    completion,
    finish,
    onward,
    resume_of,
    shown_events,
    start_command,
    wait,
)
from tests.support.defaults import RULES

MARKER = RecordVersionMarker("new-tax", 2, 1, 3)
VALUE = RecordSideEffect(blob("VALUE"))


def upsert(**change: Any) -> UpsertSearchAttributes:
    return UpsertSearchAttributes(change)


def test_immediate_steps_stand_in_list_order_before_the_blocking_one() -> None:
    run = RunModel()
    grant = run.claim()
    done = run.complete(grant, VALUE, MARKER, upsert(stage="two"), activity())
    assert run.new_types == ["SideEffectRecorded", "VersionMarkerRecorded", "SearchAttributesUpserted", "ActivityScheduled"]
    assert [event["payload"]["sequence"] for event in run.new] == [1, 2, 3, 4]
    assert all(event["workflow_task_id"] == grant.task_id for event in run.new)
    assert all(event["workflow_command_id"] is None for event in run.new)
    assert done.created_task_ids == [run.row("activity").task_id] and len(run.rows) == 1
    assert run.new[0]["payload"] == {"sequence": 1, "result": "VALUE", "payload_codec": "avro"}
    assert run.new[1]["payload"] == {
        "sequence": 2,
        "change_id": "new-tax",
        "version": 2,
        "min_supported": 1,
        "max_supported": 3,
    }
    assert run.new[2]["payload"] == {"sequence": 3, "attributes": {"stage": "two"}, "merged": {"stage": "two"}}


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        (blob("VALUE"), "VALUE"),
        (blob("1", "json"), {"codec": "json", "blob": "1"}),
        (Payload("avro", None, {"uri": "far"}), {"codec": "avro", "external_storage": {"uri": "far"}}),
    ],
)
def test_forms_of_a_side_effect(result: Payload, expected: Any) -> None:
    run = RunModel()
    run.batch(RecordSideEffect(result), activity())
    assert run.new[0]["payload"]["result"] == expected and run.new[0]["payload"]["payload_codec"] == result.codec


@pytest.mark.parametrize(("version", "least", "most"), [(1, -1, 1), (-1, -1, 4), (9, 1, 3)])
def test_versions_are_kept_as_sent(version: int, least: int, most: int) -> None:
    run = RunModel()
    run.batch(RecordVersionMarker("c", version, least, most), activity())
    payload = run.new[0]["payload"]
    assert (payload["version"], payload["min_supported"], payload["max_supported"]) == (version, least, most)


@pytest.mark.parametrize("worker", [PLAIN, PYTHON])
@pytest.mark.parametrize("step", [VALUE, MARKER, upsert(stage="two")])
def test_immediate_steps_alone_are_followed_by_a_plain_task(worker: Any, step: WorkflowCommand) -> None:
    run = RunModel()
    done = run.batch(step, worker=worker)
    task = run.row("workflow")
    assert done.created_task_ids == [task.task_id] and done.run_status == "waiting"
    grant = run.claim(worker)
    assert resume_of(grant) == {} and len(shown_events(grant)) == 3
    again = run.complete(grant, step)
    # Never a repetition: a step of its own.
    assert run.state.steps == 2 and len(again.created_task_ids) == 1


@pytest.mark.parametrize("open_", [StartTimer(60), activity(), child()])
def test_immediate_steps_need_no_task_while_something_is_open(open_: WorkflowCommand) -> None:
    run = RunModel()
    done = run.batch(open_, VALUE)
    assert len(done.created_task_ids) == 1 and all(row.kind != "workflow" for row in run.rows.values())


def test_immediate_steps_under_a_lease_that_is_lost_are_not_recorded() -> None:
    run = RunModel()
    grant = run.claim()
    run.pass_time(60)
    run.wake()
    refused(run, completion(grant, VALUE, activity()), "task_not_leased")
    assert run.state.steps == 0
    run.batch(VALUE, activity())
    assert types(run)[2:] == ["RepairRequested", "SideEffectRecorded", "ActivityScheduled"]


def test_immediate_steps_pass_a_wait() -> None:
    run = RunModel()
    run.batch(wait())
    run.signal()
    run.batch(VALUE, wait())
    assert run.new_types == ["ConditionWaitSatisfied", "SideEffectRecorded", "ConditionWaitOpened"]
    assert [event["payload"]["sequence"] for event in run.new] == [1, 2, 3]


@pytest.mark.parametrize("ending", [finish(), FailWorkflow("no"), onward()])
def test_immediate_steps_before_an_end_wherever_it_stands(ending: WorkflowCommand) -> None:
    run = RunModel()
    run.batch(ending, VALUE, MARKER, upsert(stage="two"))
    assert run.new_types[:3] == ["SideEffectRecorded", "VersionMarkerRecorded", "SearchAttributesUpserted"]
    assert len(run.new) == 4 and not run.state.is_open


def test_their_place_in_every_view() -> None:
    run = RunModel()
    run.batch(VALUE, MARKER, activity("a"), activity("b"))
    one, two = run.claim_activity(), run.claim_activity()
    run.succeed(two)
    run.succeed(one)
    shown = shown_events(run.claim())
    assert [event["event_type"] for event in shown[2:4]] == ["SideEffectRecorded", "VersionMarkerRecorded"]
    results = [event["payload"]["sequence"] for event in shown if event["event_type"] == "ActivityCompleted"]
    assert results == [3, 4] and [event["payload"]["sequence"] for event in run.events()[-2:]] == [4, 3]


def test_a_side_effect_beside_a_list_sent_again_makes_the_list_new() -> None:
    run = RunModel()
    run.batch(activity("a"), activity("b"))
    run.succeed(run.claim_activity())
    run.batch(VALUE, activity("a"), activity("b"))
    assert run.new_types == ["SideEffectRecorded", "ActivityScheduled", "ActivityScheduled"]


# -- search attributes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "merged"),
    [
        ({"b": 1}, {"a": "x", "b": 1, "t": ["p", "q"]}),
        ({"a": "y"}, {"a": "y", "t": ["p", "q"]}),
        ({"a": None}, {"t": ["p", "q"]}),
        ({"a": None, "t": None}, {}),
        ({"gone": None}, {"a": "x", "t": ["p", "q"]}),
        ({"z": True, "b": 1.5, "t": []}, {"a": "x", "b": 1.5, "t": [], "z": True}),
    ],
)
def test_attributes_are_merged(change: dict[str, Any], merged: dict[str, Any]) -> None:
    run = RunModel(search_attributes={"a": "x", "t": ["p", "q"]})
    run.batch(UpsertSearchAttributes(change), StartTimer(60))
    event = run.new[0]
    assert keys(event) == {"sequence", "attributes", "merged"}
    # The change as it was made, a deletion being null, its keys in order.
    assert event["payload"]["attributes"] == change and list(event["payload"]["attributes"]) == sorted(change)
    assert event["payload"]["merged"] == merged == run.state.search_attributes
    assert of_type(run, "WorkflowStarted")[0]["search_attributes"] == {"a": "x", "t": ["p", "q"]}


def test_changes_of_one_batch_build_on_each_other() -> None:
    run = RunModel()
    run.batch(upsert(a=1, b=2), upsert(b=None, c=3), upsert(a=None), StartTimer(60))
    assert [event["payload"]["merged"] for event in run.new[:3]] == [{"a": 1, "b": 2}, {"a": 1, "c": 3}, {"c": 3}]
    run.signal()
    assert run.state.search_attributes == {"c": 3}


@pytest.mark.parametrize(("steps", "changed"), [([upsert(a=1)], True), ([VALUE, MARKER], False)])
def test_a_transition_tells_when_attributes_changed(steps: list[WorkflowCommand], changed: bool) -> None:
    tx = starting.create(start_command(), Micros(START), RULES)
    decide(tx, start_command())
    run = RunModel()
    grant = run.claim()
    told = Transition(decode(run.data), list(run.history), Micros(run.now), run.rules, run.dialect)
    decide(told, completion(grant, *steps, StartTimer(60)))
    assert (told.attributes_changed, tx.attributes_changed) == (changed, False)


def test_a_refused_batch_leaves_no_step() -> None:
    run = RunModel(search_attributes={"a": "x"})
    grant = run.claim()
    refused(run, completion(grant, VALUE, upsert(a="y"), finish(), FailWorkflow("no")), "invalid_commands")
    assert (run.state.steps, run.state.search_attributes) == (0, {"a": "x"})
    run.complete(grant, ScheduleActivity("bare"))
    assert run.new[0]["payload"]["sequence"] == 1 and orjson.loads(run.history[-1]) == run.new[0]
