"""What clients do with a schedule, and what is told of it (contract operations 1.1, 1.7 to 1.11)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from actors.run import ids
from actors.schedule.commands import (
    BackfillSchedule,
    CreateSchedule,
    DeleteSchedule,
    PauseSchedule,
    ResumeSchedule,
    RunClosed,
    StartConfirmed,
    StartRefused,
    TriggerSchedule,
    UpdateSchedule,
    WakeUp,
)
from actors.schedule.presentation import detail, list_item
from actors.schedule.replies import Acted, Backfilled, Done, Fired, Refused
from actors.schedule.state import Definition
from tests.schedule.harness import ACTION, HOURLY, MINUTE, Schedule, at, payload, record_id, text_of

NOT_FOUND = Refused("schedule_not_found")


def test_create() -> None:
    schedule = Schedule()
    definition = Definition(spec={**HOURLY, "extra": 1}, action=ACTION, max_runs=3, memo={}, search_attributes=b"{}")
    assert schedule.tell(CreateSchedule(record_id(), definition, attribution=b'{"source":"x"}')) == Acted("created")
    [event] = schedule.new
    assert (event.sequence, event.event_type, event.event_id[-1]) == (1, "ScheduleCreated", ids.EVENT)
    assert payload(event) == {
        "spec": {**HOURLY, "extra": 1},
        "action": ACTION,
        "overlap_policy": "skip",
        "next_fire_at": "2026-05-01T10:00:00+00:00",
        "schedule": {
            "id": record_id(),
            "schedule_id": "nightly",
            "namespace": "default",
            "status": "active",
            "overlap_policy": "skip",
            "next_fire_at": "2026-05-01T10:00:00+00:00",
            "fires_count": 0,
            "skipped_trigger_count": 0,
        },
        "command_context": {"source": "x"},
    }
    assert schedule.state.remaining_actions == 3
    assert schedule.state.definition.memo is None and schedule.state.definition.search_attributes is None


def test_created_paused_there_are_two_events() -> None:
    schedule = Schedule()
    command = CreateSchedule(record_id(), Definition(HOURLY, ACTION), True, "wait", b'{"c":1}', b'{"c":2}')
    schedule.tell(command)
    assert schedule.new_types == ["ScheduleCreated", "SchedulePaused"]
    assert [payload(each)["command_context"]["c"] for each in schedule.new] == [1, 2]
    assert schedule.wake_at is None and detail(schedule.state)["next_fire_at"] == "2026-05-01T10:00:00+00:00"
    assert detail(schedule.state)["state"] == {"status": "paused", "paused": True, "note": "wait"}


def test_create_told_again_and_an_id_that_is_taken() -> None:
    schedule = Schedule()
    schedule.create()
    assert schedule.create() == Acted("created") and not schedule.changed
    assert schedule.create(record=1) == Refused("schedule_already_exists", {"schedule_id": "nightly"})


def test_a_bad_spec_changes_nothing() -> None:
    schedule = Schedule()
    bad = schedule.create(spec={"cron_expressions": ["no"]})
    assert isinstance(bad, Refused) and bad.reason == "validation_failed"
    assert list(bad.detail["errors"]) == ["spec.cron_expressions.0"]
    schedule.create()
    worse = schedule.update(spec={}, note="n")
    assert isinstance(worse, Refused) and not schedule.changed


def test_older_names_of_the_action_are_rewritten() -> None:
    schedule = Schedule()
    schedule.create(
        action={"workflow_type": "t", "workflow_execution_timeout": 5, "workflow_run_timeout": 6, "run_timeout_seconds": 7}
    )
    assert schedule.state.definition.action == {
        "workflow_type": "t",
        "execution_timeout_seconds": 5,
        "run_timeout_seconds": 7,
    }
    schedule.update(action={"workflow_run_timeout": 8})
    assert schedule.state.definition.action["run_timeout_seconds"] == 8
    schedule.fire()
    assert (schedule.starts[0].execution_timeout_seconds, schedule.starts[0].run_timeout_seconds) == (5, 8)


def test_update_changes_what_is_set() -> None:
    schedule = Schedule()
    schedule.create(memo={"a": 1}, search_attributes={"b": 2}, max_runs=5, note="old")
    reply = schedule.update(
        spec={"intervals": [{"every": "PT10M"}]},
        action={"task_queue": "other"},
        overlap_policy="buffer_all",
        jitter_seconds=0,
        max_runs=9,
        memo={},
        search_attributes={"c": 3},
        note="new",
        catchup_window_seconds=60,
    )
    assert reply == Acted("updated")
    recorded = payload(schedule.new[0])
    fields = ["spec", "action", "overlap_policy", "jitter_seconds", "note", "memo", "search_attributes", "max_runs"]
    assert recorded["changed_fields"] == [*fields, "remaining_actions", "catchup_window_seconds"]
    assert recorded["spec"] == {"intervals": [{"every": "PT10M"}]} and recorded["action"] == {**ACTION, "task_queue": "other"}
    assert recorded["next_fire_at"] == "2026-05-01T09:40:00+00:00" and recorded["overlap_policy"] == "buffer_all"
    shown = detail(schedule.state)
    assert shown["memo"] == {} and shown["search_attributes"] == {"c": 3} and shown["note"] == "new"
    assert (shown["max_runs"], shown["remaining_actions"]) == (9, 9)


def test_update_of_nothing() -> None:
    schedule = Schedule()
    schedule.create(note="n")
    before = schedule.state.definition
    schedule.now += MINUTE
    schedule.update()
    assert schedule.state.definition == before and schedule.state.note == "n"
    assert payload(schedule.new[0])["changed_fields"] == ["spec", "action"]
    assert detail(schedule.state)["updated_at"] == "2026-05-01T09:31:00+00:00"


def test_update_of_a_paused_schedule_plans_anew() -> None:
    schedule = Schedule()
    schedule.create(paused=True)
    schedule.update(spec={"cron_expressions": ["0 12 * * *"]})
    assert text_of(schedule.state.next_fire_at) == "2026-05-01 12:00:00" and schedule.wake_at is None


@pytest.mark.parametrize(("most", "remaining"), [(5, 3), (3, 1), (2, 1), (1, 1)])
def test_what_remains_after_an_update_of_max_runs(most: int, remaining: int) -> None:
    schedule = Schedule()
    schedule.create(overlap_policy="allow_all", max_runs=3)
    for _ in range(2):
        schedule.fire()
        schedule.confirm()
    schedule.update(max_runs=most)
    assert schedule.state.remaining_actions == remaining


def test_a_limit_below_what_ran_leaves_nothing() -> None:
    schedule = Schedule()
    schedule.create(overlap_policy="allow_all")
    for _ in range(2):
        schedule.fire()
        schedule.confirm()
    schedule.update(max_runs=1)
    assert schedule.state.remaining_actions == 0 and schedule.wake_at is None
    assert schedule.fire() == Fired("skipped", reason="remaining_actions_exhausted")
    schedule.update(max_runs=3)
    assert schedule.state.remaining_actions == 1 and schedule.wake_at is not None


def test_the_last_run_ends_the_schedule() -> None:
    schedule = Schedule()
    schedule.create(max_runs=2, overlap_policy="buffer_all")
    schedule.fire()
    schedule.confirm()
    assert schedule.state.remaining_actions == 1
    schedule.fire()
    schedule.fire()
    schedule.close(1)
    assert schedule.wake_at is None  # the last one is on its way
    schedule.confirm()
    assert schedule.new_types == ["ScheduleTriggered", "ScheduleDeleted"]
    assert payload(schedule.new[1])["reason"] == "max_runs_exhausted"
    state = schedule.state
    assert (state.status, state.remaining_actions, state.next_fire_at, state.buffer) == ("deleted", 0, None, [])
    schedule.close(2)
    assert not schedule.starts and schedule.tell(TriggerSchedule()) == NOT_FOUND


def test_pause_and_resume() -> None:
    schedule = Schedule()
    schedule.create()
    assert schedule.tell(PauseSchedule("hold", b"{}")) == Acted("paused")
    recorded = payload(schedule.new[0])
    assert recorded["reason"] == "hold" and recorded["paused_at"] == "2026-05-01T09:30:00+00:00"
    assert recorded["schedule"]["note"] == "hold" and recorded["command_context"] == {}
    assert text_of(schedule.state.next_fire_at) == "2026-05-01 10:00:00"
    schedule.now = at("2026-05-01 12:10")
    schedule.tell(WakeUp())
    assert not schedule.changed
    schedule.tell(PauseSchedule())
    assert schedule.new_types == ["SchedulePaused"] and "reason" not in payload(schedule.new[0])
    assert schedule.tell(ResumeSchedule("go")) == Acted("resumed")
    assert payload(schedule.new[0])["next_fire_at"] == "2026-05-01T13:00:00+00:00"
    shown = detail(schedule.state)
    assert (shown["status"], shown["paused_at"], shown["note"]) == ("active", None, "go")
    assert not schedule.starts
    assert schedule.tell(ResumeSchedule("again")) == Acted("resumed") and not schedule.changed


def test_a_pause_stops_also_what_is_due() -> None:
    schedule = Schedule()
    schedule.create()
    schedule.now = at("2026-05-01 10:00:01")
    schedule.tell(PauseSchedule())
    assert not schedule.starts


def test_a_paused_schedule_skips_fires_by_hand() -> None:
    schedule = Schedule()
    schedule.create(paused=True)
    assert schedule.fire() == Fired("skipped", reason="status_not_triggerable")
    reply = schedule.tell(BackfillSchedule(at("2026-05-01 00:00"), at("2026-05-01 02:00")))
    assert isinstance(reply, Backfilled)
    assert [(each.outcome, each.reason) for each in reply.results] == [("skipped", "status_not_triggerable")] * 2
    assert text_of(schedule.state.next_fire_at) == "2026-05-01 10:00:00"


def test_delete() -> None:
    schedule = Schedule()
    schedule.create(overlap_policy="buffer_all")
    schedule.fire()
    schedule.confirm()
    schedule.fire()
    schedule.now = at("2026-05-01 10:00")
    assert schedule.tell(DeleteSchedule(b"{}")) == Acted("deleted")
    assert schedule.new_types == ["ScheduleDeleted"] and not schedule.out and not schedule.state.buffer
    assert payload(schedule.new[0])["deleted_at"] == "2026-05-01T10:00:00+00:00"
    for command in (
        UpdateSchedule(),
        PauseSchedule(),
        ResumeSchedule(),
        DeleteSchedule(),
        TriggerSchedule(),
        BackfillSchedule(0, 1),
    ):
        assert schedule.tell(command) == NOT_FOUND and not schedule.changed
    assert schedule.tell(WakeUp()) == Done()
    assert Schedule().tell(TriggerSchedule()) == NOT_FOUND


def test_a_start_on_its_way_is_recorded_after_a_deletion() -> None:
    schedule = Schedule()
    schedule.create()
    schedule.fire()
    schedule.tell(DeleteSchedule())
    schedule.confirm()
    assert schedule.types == ["ScheduleCreated", "ScheduleDeleted", "ScheduleTriggered"]
    assert schedule.state.status == "deleted" and schedule.wake_at is None


def test_an_id_may_be_used_again_and_its_audit_history_goes_on() -> None:
    schedule = Schedule()
    schedule.create()
    schedule.fire()
    schedule.confirm()
    schedule.fire("allow_all")
    schedule.tell(DeleteSchedule())
    assert schedule.create(record=1) == Acted("created")
    assert [each.sequence for each in schedule.events] == [1, 2, 3, 4]
    state = schedule.state
    assert (state.fires_count, state.latest, state.numbers, state.record_id) == (0, None, 0, record_id(1))
    for late in (StartConfirmed(record_id(), 2), StartRefused(record_id(), 2, "no"), RunClosed(record_id(), 1)):
        schedule.tell(late)
        assert not schedule.changed  # of the record before
    assert len({each.event_id for each in schedule.events}) == 4


# -- backfill ------------------------------------------------------------------------------------------------------------


def backfill(schedule: Schedule, start: str, end: str, policy: str | None = None, **more: Any) -> Any:
    return schedule.tell(BackfillSchedule(at(start), at(end), policy, **more))


def test_backfill() -> None:
    schedule = Schedule()
    schedule.create(jitter_seconds=600)
    planned = schedule.state.next_fire_at
    reply = backfill(schedule, "2026-04-29 22:00", "2026-04-30 01:00", "allow_all", attribution=b'{"source":"x"}')
    assert [(text_of(each.occurrence), each.outcome, each.number) for each in reply.results] == [
        ("2026-04-29 22:00:00", "sent", 1),
        ("2026-04-29 23:00:00", "sent", 2),
        ("2026-04-30 00:00:00", "sent", 3),
    ]
    assert reply.go_on_at is None and schedule.state.next_fire_at == planned
    assert len(schedule.state.contexts) == 1
    for number in (2, 3, 1):
        schedule.confirm(number)
        recorded = payload(schedule.new[0])
        assert recorded["outcome"] == "backfilled" and recorded["command_context"] == {"source": "x"}
    assert not schedule.state.contexts and schedule.state.fires_count == 3


def test_backfill_with_skip_starts_one() -> None:
    schedule = Schedule()
    schedule.create()
    reply = backfill(schedule, "2026-04-29 22:00", "2026-04-30 01:00")
    assert [each.outcome for each in reply.results] == ["sent", "skipped", "skipped"]


@pytest.mark.parametrize("policy", ["buffer_one", "buffer_all"])
def test_backfill_does_not_buffer(policy: str) -> None:
    schedule = Schedule()
    schedule.create(overlap_policy=policy)
    reply = backfill(schedule, "2026-04-29 22:00", "2026-04-30 01:00")
    assert [each.outcome for each in reply.results] == ["sent"] * 3
    assert {each.triggered["overlap_policy"] for each in schedule.starts} == {"allow_all"}


def test_backfill_stops_when_nothing_remains() -> None:
    schedule = Schedule()
    schedule.create(max_runs=2)
    reply = backfill(schedule, "2026-04-29 00:00", "2026-04-30 00:00", "allow_all")
    assert len(reply.results) == 2
    schedule.confirm()
    assert schedule.state.status == "deleted"


def test_ranges_of_a_backfill() -> None:
    schedule = Schedule()
    schedule.create(spec={"cron_expressions": ["* * * * *"]})
    assert backfill(schedule, "2026-04-29 00:00", "2026-04-29 00:00") == Refused("invalid_time_range")
    assert backfill(schedule, "2026-04-29 00:00", "2026-04-28 00:00") == Refused("invalid_time_range")
    assert backfill(schedule, "2026-04-29 00:00", "2026-04-29 16:41").reason == "invalid_time_range"
    assert len(backfill(schedule, "2026-04-29 00:00", "2026-04-29 16:40", "allow_all").results) == 1000
    assert len(schedule.starts) == 1000 and len({each.run_id for each in schedule.starts}) == 1000
    empty = backfill(schedule, "2026-04-29 00:00:01", "2026-04-29 00:00:59")
    assert empty == Backfilled([])


def test_a_backfill_in_parts() -> None:
    schedule = Schedule()
    schedule.create()
    first = backfill(schedule, "2026-04-29 00:00", "2026-04-29 05:00", "allow_all", at_most=3)
    assert len(first.results) == 3 and text_of(first.go_on_at) == "2026-04-29 03:00:00"
    rest = schedule.tell(BackfillSchedule(first.go_on_at, at("2026-04-29 05:00"), "allow_all", at_most=3, first=False))
    assert isinstance(rest, Backfilled) and [text_of(each.occurrence) for each in rest.results] == [
        "2026-04-29 03:00:00",
        "2026-04-29 04:00:00",
    ]
    assert rest.go_on_at is None


# -- views ---------------------------------------------------------------------------------------------------------------


def test_views_are_those_of_the_contract() -> None:
    schedule = Schedule()
    schedule.create(jitter_seconds=0)
    shown = detail(schedule.state)
    assert orjson.loads(orjson.dumps(shown)) == shown
    assert shown["info"] == {
        "next_fire": "2026-05-01T10:00:00+00:00",
        "last_fire": None,
        "fires_count": 0,
        "failures_count": 0,
        "recent_actions": [],
        "buffered_actions": [],
        "skipped_trigger_count": 0,
        "last_skip_reason": None,
        "last_skipped_at": None,
    }
    item = list_item(schedule.state)
    assert item["workflow_type"] == "parcels.audit" and item["paused"] is False and item["next_fire"] == item["next_fire_at"]
    assert {"spec", "action", "namespace", "note", "max_runs", "remaining_actions", "overlap_policy"} <= set(item)
