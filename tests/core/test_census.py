"""What open runs add to the numbers of operators."""

from __future__ import annotations

from collections.abc import Collection

from actors.run import ids
from actors.run.state import Activity, RunState, WorkflowTask
from actors.run.times import Micros
from actors.run.views.census import Census
from tests.support.defaults import RULES, make_rules

NOW = Micros(1_776_676_500_000_000)
SECOND = 1_000_000


def run(**fields: object) -> RunState:
    key = ids.RunKey("0a" + "q" * 13)
    basis = {"namespace": "default", "workflow_id": "w", "run_id": ids.new_run_id(NOW // 1000, key), "workflow_type": "order"}
    return RunState(**basis, task_queue="parcels", started_at=NOW - 60 * SECOND, **fields)  # type: ignore[arg-type]


def activity(**fields: object) -> Activity:
    basis = {"execution_id": "e", "activity_type": "pack", "step": 1, "scheduled_event": 3, "payload_codec": "avro"}
    return Activity(**basis, **{"queue": "parcels", "created_at": NOW - 9 * SECOND, "available_at": NOW, **fields})  # type: ignore[arg-type]


def census(*states: RunState, serving: Collection[tuple[str, str | None]] = ()) -> Census:
    counted = Census(RULES, serving)
    for state in states:
        counted.count(state, NOW)
    return counted


def test_leases_that_ran_out() -> None:
    task = WorkflowTask("t", status="leased", lease_expires_at=NOW - SECOND, attempt=4, repairs=2)
    late = activity(status="running", lease_expires_at=NOW - 3 * SECOND, attempts=1)
    found = census(
        run(task=task, activities={"a": late}), run(task=WorkflowTask("t", status="leased", lease_expires_at=NOW + 1))
    )
    assert found.leased == 3
    assert (found.lease_expired.count, found.lease_expired.since) == (2, NOW - 3 * SECOND)
    assert (found.most_task_attempts, found.most_repairs) == (4, 2)


def test_activities_that_are_tried_again_or_overdue() -> None:
    again = activity(attempts=2, created_at=NOW - 5 * SECOND)
    overdue = activity(status="running", attempts=3, deadline=NOW - 1, lease_expires_at=NOW + SECOND)
    done = activity(status="completed", attempts=7)
    found = census(run(activities={"a": again, "b": overdue, "c": activity(), "d": done}))
    assert (found.activities_ready, found.activities_running) == (2, 1)
    assert (found.retrying.count, found.retrying.since) == (1, NOW - 5 * SECOND)
    assert (found.overdue.count, found.overdue.since) == (1, NOW - 1)
    assert (found.failed_attempts, found.most_activity_attempts) == (4, 3)


def test_marked_runs_without_a_worker_of_their_build() -> None:
    ready = {"task": WorkflowTask("t"), "compatibility": "b1"}
    serving = {("parcels", "b1"), ("other", "b2")}
    assert census(run(**ready), serving=serving).unserved.count == 0
    assert census(run(**ready), serving={("parcels", "b2")}).unserved.count == 1
    elsewhere = run(compatibility="b1", activities={"a": activity(queue="other")})
    assert census(elsewhere, serving=serving).unserved.count == 1
    assert census(run(task=WorkflowTask("t")), serving=set()).unserved.count == 0, "without a marker any worker will do"


def test_failures_by_type_and_runs_that_cannot_replay() -> None:
    failed = WorkflowTask("t", failures=3, last_error={"message": "m"})
    found = census(run(task=failed), run(task=WorkflowTask("t", failures=1, last_error={"message": "m"})))
    assert (found.failing["order"].tasks, found.failing["order"].most, found.replay_blocked) == (2, 3, 2)


def test_nothing_goes_on_by_itself() -> None:
    stuck = run(status="waiting", last_progress_at=NOW - 7 * SECOND, task=WorkflowTask("t", status="completed"))
    found = census(stuck)
    assert (found.repair_needed.count, found.repair_needed.since) == (1, NOW - 7 * SECOND)


def test_histories_near_and_past_what_is_advised() -> None:
    counted = Census(make_rules(budget_events=100), set())
    for events in (79, 80, 99, 100, 500):
        counted.count(run(last_sequence=events), NOW)
    assert (counted.near_budget, counted.past_budget, counted.most_events, counted.events) == (2, 2, 500, 858)
