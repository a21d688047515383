"""What a fire does, policy by policy (contract operations 1.3 to 1.6)."""

from __future__ import annotations

import pytest

from actors.run import ids
from actors.run.times import SECOND
from actors.schedule.commands import PauseSchedule, StartConfirmed, TriggerSchedule, WakeUp
from actors.schedule.firing import BUFFER_FULL_TEXT
from actors.schedule.messages import Origin, StopRun
from actors.schedule.presentation import detail
from actors.schedule.replies import Done, Fired
from tests.schedule.harness import ACTION, HOUR, MINUTE, Schedule, as_json, at, payload, record_id, text_of


def test_a_fire_sends_a_start_and_is_recorded_when_that_is_confirmed() -> None:
    schedule = Schedule()
    schedule.create(memo={"team": "x"}, search_attributes={"Customer": "c"})
    assert text_of(schedule.wake_at) == "2026-05-01 10:00:00"
    schedule.now = at("2026-05-01 10:00:00.250")
    schedule.tell(WakeUp())
    [start] = schedule.starts
    assert not schedule.new and schedule.state.fires_count == 0 and schedule.state.running
    assert start.origin == Origin("nightly", record_id(), 1)
    assert len(start.workflow_id) == ids.ID_LENGTH and start.workflow_id == start.workflow_id.lower()
    assert ids.shard_in(ids.key_in(start.run_id)) == ids.shard_of("default", start.workflow_id, 64)
    told = as_json(start)
    assert told["workflow_type"] == "parcels.audit" and told["task_queue"] == "parcels" and told["input"] == [1]
    assert told["memo"] == {"team": "x"} and told["search_attributes"] == {"Customer": "c"}
    assert told["duplicate_policy"] == "use-existing"
    assert start.triggered == {
        "schedule_id": "nightly",
        "schedule_ulid": record_id(),
        "cron_expression": "0 * * * *",
        "timezone": "UTC",
        "overlap_policy": "skip",
        "trigger_number": 1,
        "occurrence_time": "2026-05-01T10:00:00.000000+00:00",
    }

    schedule.now += SECOND
    schedule.confirm()
    assert schedule.new_types == ["ScheduleTriggered"]
    [event] = schedule.new
    assert (event.workflow_instance_id, event.workflow_run_id) == (start.workflow_id, start.run_id)
    recorded = payload(event)
    assert recorded["outcome"] == "scheduled" and recorded["effective_overlap_policy"] == "skip"
    assert recorded["trigger_number"] == 1 and recorded["occurrence_time"] == "2026-05-01T10:00:00.000000+00:00"
    assert recorded["schedule"]["fires_count"] == 1
    assert recorded["schedule"]["latest_workflow_instance_id"] == start.workflow_id
    assert "command_context" not in recorded
    [settled] = schedule.settled
    assert (settled.number, settled.workflow_id, settled.reason) == (1, start.workflow_id, None)
    assert text_of(schedule.wake_at) == "2026-05-01 11:00:00"
    assert detail(schedule.state)["info"]["recent_actions"] == [
        {
            "workflow_id": start.workflow_id,
            "run_id": start.run_id,
            "outcome": "scheduled",
            "fired_at": "2026-05-01T10:00:00+00:00",
            "occurrence_time": "2026-05-01T10:00:00.000000+00:00",
            "fire_lag_ms": 250,
        }
    ]


def test_a_confirmation_told_again_changes_nothing() -> None:
    schedule = Schedule()
    schedule.create()
    schedule.fire()
    again = StartConfirmed(record_id(), 1)
    schedule.tell(again)
    assert schedule.new_types == ["ScheduleTriggered"]
    assert schedule.tell(again) == Done() and not schedule.changed
    schedule.tell(StartConfirmed(record_id(7), 1))
    assert not schedule.changed
    schedule.close(1)
    assert not schedule.state.running
    schedule.close(1)
    assert not schedule.changed


def test_an_end_that_overtakes_the_confirmation_stands_for_it() -> None:
    schedule = Schedule()
    schedule.create()
    schedule.fire()
    schedule.close(1)
    assert schedule.new_types == ["ScheduleTriggered"] and not schedule.state.running
    schedule.tell(StartConfirmed(record_id(), 1))
    assert not schedule.changed


@pytest.mark.parametrize("confirmed", [True, False])
def test_skip(confirmed: bool) -> None:
    schedule = Schedule()
    schedule.create()
    schedule.fire()
    if confirmed:
        schedule.confirm()
    schedule.wake()
    assert not schedule.starts and schedule.new_types == ["ScheduleTriggerSkipped"]
    recorded = payload(schedule.new[0])
    assert recorded["reason"] == "overlap_policy_skip" and recorded["skipped_trigger_count"] == 1
    assert recorded["last_skipped_at"] == "2026-05-01T10:00:00+00:00"
    assert text_of(schedule.wake_at) == "2026-05-01 11:00:00"
    schedule.close(1)
    schedule.wake()
    assert len(schedule.starts) == 1


def test_buffer_one() -> None:
    schedule = Schedule()
    schedule.create(overlap_policy="buffer_one")
    schedule.fire()
    schedule.confirm()
    schedule.wake()
    assert not schedule.starts and not schedule.new and text_of(schedule.wake_at) == "2026-05-01 11:00:00"
    assert detail(schedule.state)["info"]["buffered_actions"] == [
        {"buffered_at": "2026-05-01T10:00:00+00:00", "occurrence_time": "2026-05-01T10:00:00.000000+00:00"}
    ]
    assert schedule.fire() == Fired("buffer_full", reason=BUFFER_FULL_TEXT)
    assert payload(schedule.new[0])["reason"] == "buffer_full"
    schedule.now += 5 * MINUTE
    schedule.close(1)
    [start] = schedule.starts
    assert start.triggered["occurrence_time"] == "2026-05-01T10:00:00.000000+00:00" and not schedule.state.buffer
    schedule.confirm()
    assert payload(schedule.new[0])["outcome"] == "drained"


def test_buffer_all_drains_in_order_one_at_a_time() -> None:
    schedule = Schedule()
    schedule.create(overlap_policy="buffer_all")
    schedule.fire()
    schedule.confirm()
    assert schedule.fire() == Fired("buffered", buffer_depth=1)
    schedule.wake()
    schedule.wake()
    assert [each.occurrence for each in schedule.state.buffer] == [None, at("2026-05-01 10:00"), at("2026-05-01 11:00")]
    found = []
    for number in (1, 2, 3):
        schedule.close(number)
        [start] = schedule.starts
        found.append(start.triggered.get("occurrence_time"))
        schedule.confirm()
    assert found == [None, "2026-05-01T10:00:00.000000+00:00", "2026-05-01T11:00:00.000000+00:00"]


def test_a_buffer_survives_a_pause() -> None:
    schedule = Schedule()
    schedule.create(overlap_policy="buffer_all")
    schedule.fire()
    schedule.confirm()
    schedule.fire()
    schedule.tell(PauseSchedule())
    schedule.close(1)
    assert not schedule.starts and len(schedule.state.buffer) == 1 and schedule.wake_at is None
    schedule.resume()
    assert len(schedule.starts) == 1 and not schedule.state.buffer


@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_stopping_the_other(how: str) -> None:
    schedule = Schedule()
    schedule.create(overlap_policy=f"{how}_other")
    first = schedule.fire()
    schedule.confirm()
    second = schedule.fire()
    assert second.outcome == "sent" and second.workflow_id != first.workflow_id
    assert first.workflow_id is not None
    reason = f"Schedule overlap: {how}_other policy applied."
    assert schedule.stops == [StopRun("default", first.workflow_id, how, reason)]
    # A third one, before the second is confirmed: it is stopped when it is there.
    schedule.fire()
    assert not schedule.stops
    schedule.confirm(2)
    assert [each.workflow_id for each in schedule.stops] == [second.workflow_id]
    schedule.confirm(3)
    assert not schedule.stops
    schedule.close(3)
    schedule.fire()
    assert not schedule.stops  # nothing runs


def test_allow_all_looks_at_nothing() -> None:
    schedule = Schedule()
    schedule.create(overlap_policy="allow_all")
    numbers = [schedule.fire().number for _ in range(3)]
    assert numbers == [1, 2, 3] and not schedule.stops
    schedule.confirm()
    assert [payload(each)["trigger_number"] for each in schedule.events[1:]] == [1, 2, 3]


def test_only_the_latest_run_counts() -> None:
    schedule = Schedule()
    schedule.create()
    schedule.fire("allow_all")
    schedule.fire("allow_all")
    schedule.confirm(2)
    schedule.confirm(1)
    assert schedule.state.latest is not None and schedule.state.latest.number == 2
    schedule.close(2)
    assert schedule.fire().outcome == "sent"  # the first one is still under way


def test_a_policy_for_one_fire() -> None:
    schedule = Schedule()
    schedule.create()
    schedule.fire()
    schedule.confirm()
    assert schedule.fire() == Fired("skipped", reason="overlap_policy_skip")
    assert schedule.fire("buffer_one") == Fired("buffered", buffer_depth=1)
    assert schedule.fire("allow_all").outcome == "sent"
    assert schedule.starts[0].triggered["overlap_policy"] == "allow_all" and schedule.starts[0].duplicate_policy == "fail"


def test_who_fired_by_hand_stands_in_the_event() -> None:
    schedule = Schedule()
    schedule.create()
    schedule.tell(TriggerSchedule(attribution=b'{"source":"control_plane"}'))
    assert schedule.state.contexts
    schedule.confirm()
    recorded = payload(schedule.new[0])
    assert recorded["command_context"] == {"source": "control_plane"} and "occurrence_time" not in recorded
    assert not schedule.state.contexts


def test_a_refused_start_is_a_failure() -> None:
    schedule = Schedule()
    schedule.create(max_runs=1)
    schedule.fire()
    assert schedule.fire() == Fired("skipped", reason="remaining_actions_exhausted")  # it may still succeed
    schedule.refuse(1, "history is full")
    state = schedule.state
    assert (state.failures_count, state.fires_count, state.remaining_actions) == (1, 0, 1)
    assert not schedule.new and schedule.settled[0].reason == "history is full" and not schedule.settled[0].skipped
    assert detail(state)["info"]["recent_actions"] == [
        {"outcome": "failed", "reason": "history is full", "fired_at": "2026-05-01T09:30:00+00:00"}
    ]
    assert schedule.fire().outcome == "sent"


def test_a_start_that_the_fleet_cannot_run_is_a_skip() -> None:
    schedule = Schedule()
    schedule.create()
    schedule.fire()
    schedule.refuse(1, "compatibility_blocked")
    assert schedule.state.failures_count == 0 and payload(schedule.new[0])["reason"] == "compatibility_blocked"
    assert schedule.settled[0].skipped


def test_a_failed_drain_goes_back_to_the_front_and_is_tried_again() -> None:
    schedule = Schedule()
    schedule.create(overlap_policy="buffer_all")
    schedule.fire()
    schedule.confirm()
    schedule.fire()
    schedule.now += SECOND
    schedule.fire()
    waiting = schedule.state.buffer
    schedule.close(1)
    schedule.refuse(2)
    assert schedule.state.buffer == waiting and schedule.state.failures_count == 1
    assert schedule.wake_at == schedule.now + 10 * SECOND
    assert schedule.fire() == Fired("buffered", buffer_depth=3)  # not before those that wait
    schedule.wake()
    assert len(schedule.starts) == 1 and len(schedule.state.buffer) == 2


def test_recent_actions_are_ten() -> None:
    schedule = Schedule()
    schedule.create(overlap_policy="allow_all")
    for _ in range(13):
        schedule.fire()
        schedule.confirm()
    recent = detail(schedule.state)["info"]["recent_actions"]
    assert len(recent) == 10 and schedule.state.fires_count == 13
    latest = schedule.state.latest
    assert latest is not None and recent[-1]["workflow_id"] == latest.workflow_id


# -- time --------------------------------------------------------------------------------------------------------------


def test_an_outage_leaves_one_fire() -> None:
    schedule = Schedule()
    schedule.create(overlap_policy="allow_all")
    schedule.wake("2026-05-01 14:20")
    assert [each.triggered["occurrence_time"] for each in schedule.starts] == ["2026-05-01T10:00:00.000000+00:00"]
    assert text_of(schedule.wake_at) == "2026-05-01 15:00:00"


def test_a_catch_up_window_fires_what_was_missed_in_it_in_order() -> None:
    schedule = Schedule()
    schedule.create(overlap_policy="allow_all", catchup_window_seconds=2 * 3600)
    schedule.wake("2026-05-01 14:20")
    assert [each.triggered["occurrence_time"][11:16] for each in schedule.starts] == ["13:00", "14:00"]
    assert text_of(schedule.wake_at) == "2026-05-01 15:00:00"
    assert detail(schedule.state)["catchup_window_seconds"] == 7200
    assert "catchup_window_seconds" not in detail(Schedule().state)


def test_a_window_that_nothing_was_missed_in_leaves_one_fire_as_without() -> None:
    schedule = Schedule()
    schedule.create(overlap_policy="allow_all", catchup_window_seconds=60)
    schedule.wake("2026-05-01 14:20")
    assert [each.triggered["occurrence_time"][11:16] for each in schedule.starts] == ["10:00"]
    schedule.wake("2026-05-01 14:30")
    assert not schedule.starts and text_of(schedule.wake_at) == "2026-05-01 15:00:00"


def test_catching_up_follows_the_policy() -> None:
    schedule = Schedule()
    schedule.create(overlap_policy="buffer_all", catchup_window_seconds=6 * 3600)
    schedule.wake("2026-05-01 13:20")
    assert len(schedule.starts) == 1 and len(schedule.state.buffer) == 3


def test_a_thousand_at_once() -> None:
    schedule = Schedule()
    schedule.create(spec={"intervals": [{"every": "PT1S"}]}, overlap_policy="allow_all", catchup_window_seconds=86_400)
    schedule.now = at("2026-05-01 10:00")
    schedule.tell(WakeUp())
    assert len(schedule.starts) == 1000 and schedule.wake_at is not None and schedule.wake_at <= schedule.now
    schedule.tell(WakeUp())
    assert len(schedule.starts) == 800 and schedule.wake_at > schedule.now


def test_jitter_is_within_bounds_and_differs() -> None:
    delays = set()
    for record in range(40):
        schedule = Schedule()
        schedule.create(record=record, jitter_seconds=60)
        assert schedule.wake_at is not None
        delay = schedule.wake_at - at("2026-05-01 10:00")
        assert 0 <= delay <= 60 * SECOND and delay % SECOND == 0
        delays.add(delay)
    assert len(delays) > 15


def test_the_occurrence_of_a_fire_is_the_jittered_time() -> None:
    schedule = Schedule()
    schedule.create(jitter_seconds=3600)
    due = schedule.wake_at
    schedule.wake()
    assert schedule.state.sent[1].occurrence == due


def test_a_fire_by_hand_leaves_a_jittered_one_that_is_still_to_come() -> None:
    schedule = Schedule()
    schedule.create(jitter_seconds=1800, overlap_policy="allow_all")
    due = schedule.wake_at
    assert due is not None and due > at("2026-05-01 10:00")
    schedule.now = due - SECOND
    schedule.fire()
    assert schedule.wake_at == due


def test_what_is_due_fires_before_a_fire_by_hand() -> None:
    schedule = Schedule()
    schedule.create(overlap_policy="allow_all")
    schedule.now = at("2026-05-01 10:00:03")
    schedule.fire()
    assert [each.triggered.get("occurrence_time") for each in schedule.starts] == ["2026-05-01T10:00:00.000000+00:00", None]


def test_an_occurrence_does_not_fire_again_when_the_clock_goes_back() -> None:
    schedule = Schedule()
    schedule.create(overlap_policy="allow_all")
    schedule.wake()
    schedule.now -= 3 * SECOND
    schedule.tell(WakeUp())
    assert not schedule.starts and text_of(schedule.wake_at) == "2026-05-01 11:00:00"


def test_a_clock_that_was_ahead_leaves_no_fire_far_away() -> None:
    schedule = Schedule()
    schedule.create(overlap_policy="allow_all")
    schedule.wake("2027-05-01 09:59")
    assert text_of(schedule.wake_at) == "2027-05-01 10:00:00"
    schedule.now = at("2026-05-01 10:20")
    schedule.tell(WakeUp())
    assert text_of(schedule.wake_at) == "2026-05-01 11:00:00"


def test_a_spec_without_occurrences_never_fires() -> None:
    schedule = Schedule()
    schedule.create(spec={"cron_expressions": ["0 0 30 2 *"]})
    assert schedule.wake_at is None and detail(schedule.state)["next_fire_at"] is None
    assert schedule.fire().outcome == "sent"


def test_the_input_of_an_action_is_not_written_with_each_fire() -> None:
    schedule = Schedule()
    schedule.create(action={**ACTION, "input": ["x" * 100_000]})
    schedule.wake()
    assert len(schedule._stored[0]) < 1000 and schedule.starts[0].input == ["x" * 100_000]
    assert schedule.now % HOUR == 0
