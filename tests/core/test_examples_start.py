"""How a run begins and how its workflow task is leased (engine-semantics 2.4, 2.5, 3, 4; worker-protocol 4)."""

from __future__ import annotations

import orjson
import pytest

from actors.run import ids
from actors.run.commands import WakeUp
from actors.run.commands.control import NoteDuplicateStart, TerminateRun
from actors.run.commands.steps import StartTimer
from actors.run.commands.worker import CheckLease, ClaimTask, FailWorkflowTask, HeartbeatWorkflowTask, ReleaseClaim, RereadClaim
from actors.run.replies import (
    Done,
    HistoryPage,
    NotDue,
    Refused,
    Started,
    WorkflowTaskFailed,
    WorkflowTaskGrant,
    WorkflowTaskRenewed,
)
from actors.run.values import Resume
from tests.core.harness import (
    OTHER,
    PLAIN,
    PYTHON,
    RUN_ID,
    START,
    RunModel,
    activity,
    completion,
    finish,
    onward,
    page_of,
    resume_of,
    shown_events,
    start_command,
)

SECOND = 1_000_000


def test_start_records_two_events_and_offers_one_task() -> None:
    run = RunModel(
        business_key="b-1", memo={"m": 1}, search_attributes={"s": "x"}, run_timeout_seconds=600, execution_timeout_seconds=3600
    )
    assert run.started == Started("order-7", RUN_ID, "order", "default", "pending", "b-1", "avro", "started_new")
    accepted, started = run.events()
    assert [accepted["event_type"], started["event_type"]] == ["StartAccepted", "WorkflowStarted"]
    command_id = accepted["workflow_command_id"]
    assert command_id and started["workflow_command_id"] == command_id
    shared = {
        "workflow_command_id": command_id,
        "workflow_instance_id": "order-7",
        "workflow_run_id": RUN_ID,
        "workflow_class": "order",
        "workflow_type": "order",
        "business_key": "b-1",
        "memo": {"m": 1},
        "search_attributes": {"s": "x"},
    }
    assert accepted["payload"] == {**shared, "outcome": "started_new"}
    assert started["payload"] == {
        **shared,
        "workflow_id": "order-7",
        "timestamp": "2026-04-20T09:15:00.250000Z",
        "payload_codec": "avro",
        "arguments": {"codec": "avro", "blob": "INPUT"},
        "task_queue": "main",
        "execution_timeout_seconds": 3600,
        "run_timeout_seconds": 600,
        "execution_deadline_at": "2026-04-20T10:15:00+00:00",
        "run_deadline_at": "2026-04-20T09:25:00+00:00",
    }
    assert {"id", "event_type", "namespace", "payload", "workflow_task_id", "workflow_command_id", "recorded_at"} == set(
        started
    )
    assert started["namespace"] == "default" and started["workflow_task_id"] is None
    row = run.row("workflow")
    assert (row.queue, row.type_name, row.available_at) == ("main", "order", START)
    assert run.wake_at == START + 600 * SECOND


def test_ids_lead_back_to_the_run() -> None:
    run = RunModel()
    for event in run.events():
        assert ids.run_key_of(event["id"]) == ids.run_key_of(RUN_ID)
    assert len({event["id"] for event in run.events()}) == 2


def test_start_without_queue_uses_the_default_queue() -> None:
    assert RunModel(task_queue=None).row("workflow").queue == "default"


DUPLICATES = [("fail", "StartRejected", "rejected_duplicate"), ("use-existing", "StartAccepted", "returned_existing_active")]


@pytest.mark.parametrize(("policy", "event", "outcome"), DUPLICATES)
def test_duplicate_start(policy: str, event: str, outcome: str) -> None:
    run = RunModel()
    rows = dict(run.rows)
    other = start_command(run_id=ids.new_run_id(START // 1000 + 9, ids.RunKey("0a" + "z" * 13)), duplicate_policy=policy)
    answer = run.expect(Started, NoteDuplicateStart(other))
    assert (answer.outcome, answer.run_id, answer.status) == (outcome, RUN_ID, "pending")
    assert run.new_types == [event]
    payload = run.new[0]["payload"]
    assert payload["outcome"] == outcome
    assert payload.get("rejection_reason") == ("instance_already_started" if event == "StartRejected" else None)
    assert payload["workflow_command_id"] == run.new[0]["workflow_command_id"] != run.events()[0]["workflow_command_id"]
    assert run.state.command_sequence == 2
    assert run.rows == rows


@pytest.mark.parametrize("policy", ["fail", "use-existing"])
@pytest.mark.parametrize("end", ["completed", "terminated"])
def test_duplicate_start_of_a_closed_run_leaves_no_trace(policy: str, end: str) -> None:
    run = RunModel()
    if end == "completed":
        run.batch(finish())
    else:
        run.tell(TerminateRun())
    before = run.data
    answer = run.expect(Started, NoteDuplicateStart(start_command(duplicate_policy=policy)))
    assert (answer.outcome, answer.run_id, answer.status) == ("rejected_duplicate", RUN_ID, end)
    assert not run.changed and run.data == before


@pytest.mark.parametrize(("policy", "event", "outcome"), DUPLICATES)
def test_a_hundred_duplicate_starts_are_recorded_and_further_ones_counted(policy: str, event: str, outcome: str) -> None:
    run = RunModel()
    for _ in range(130):
        answer = run.expect(Started, NoteDuplicateStart(start_command(duplicate_policy=policy)))
        assert (answer.outcome, answer.status) == (outcome, "pending")
    assert [each["event_type"] for each in run.events()][2:] == [event] * 100
    assert (run.state.duplicate_starts, run.state.command_sequence) == (130, 101)
    # Every run has its own hundred.
    run.batch(onward())
    assert run.successor is not None
    run.successor.expect(Started, NoteDuplicateStart(start_command(duplicate_policy=policy)))
    assert run.successor.new_types == [event]


def test_duplicate_start_of_a_continued_run_is_for_the_run_that_goes_on() -> None:
    run = RunModel()
    run.complete(run.claim(), onward())
    before = list(run.history)
    refused = run.expect(Refused, NoteDuplicateStart(start_command(duplicate_policy="use-existing")))
    assert refused.reason == "run_continued"
    assert run.history == before


def test_duplicate_start_elsewhere_or_of_another_type_leaves_no_trace() -> None:
    run = RunModel()
    elsewhere = run.expect(Refused, NoteDuplicateStart(start_command(namespace="other", duplicate_policy="use-existing")))
    assert elsewhere.reason == "workflow_id_reserved_in_namespace"
    another = run.expect(Refused, NoteDuplicateStart(start_command(workflow_type="refund", duplicate_policy="use-existing")))
    assert another.reason == "workflow_type_mismatch"
    assert not run.changed and len(run.history) == 2


def test_first_claim_records_nothing_and_shows_the_start() -> None:
    run = RunModel(compatibility="blue")
    grant = run.claim()
    assert run.new == [] and run.rows == {}
    assert grant == WorkflowTaskGrant(
        task_id=grant.task_id,
        workflow_id="order-7",
        run_id=RUN_ID,
        workflow_task_attempt=1,
        workflow_type="order",
        payload_codec="avro",
        arguments=b'{"codec":"avro","blob":"INPUT"}',
        run_status="pending",
        last_history_sequence=2,
        history_events=grant.history_events,
        history_count=2,
        next_after=None,
        task_queue="main",
        compatibility="blue",
        lease_owner="python-1",
        lease_expires_at=START + 60 * SECOND,
        resume=Resume(),
        budget=grant.budget,
    )
    shown = shown_events(grant)
    assert [(event["sequence"], event["event_type"]) for event in shown] == [(1, "StartAccepted"), (2, "WorkflowStarted")]
    assert [{k: v for k, v in event.items() if k != "sequence"} for event in shown] == run.events()
    assert run.wake_at == START + 60 * SECOND
    assert run.state.status == "pending"


def test_a_task_is_granted_once() -> None:
    run = RunModel()
    grant = run.claim()
    assert run.expect(Refused, ClaimTask(grant.task_id, OTHER)).reason == "not_ready"
    assert run.expect(Refused, ClaimTask(RUN_ID[:-1] + ids.WORKFLOW_TASK, OTHER)).reason == "not_ready"


def test_a_batch_becomes_steps_in_order() -> None:
    run = RunModel()
    done = run.batch(activity("a"), StartTimer(5), activity("b", queue="other"))
    assert run.new_types == ["ActivityScheduled", "TimerScheduled", "ActivityScheduled"]
    assert [event["payload"]["sequence"] for event in run.new] == [1, 2, 3]
    task_id = run.new[0]["workflow_task_id"]
    assert task_id and all(event["workflow_task_id"] == task_id for event in run.new)
    timer = run.new[1]["payload"]
    assert (timer["delay_seconds"], timer["fire_at"]) == (5, "2026-04-20T09:15:05.250000Z") and "timer_kind" not in timer
    first, second = run.row("activity"), run.row("activity", 1)
    assert [(first.type_name, first.queue), (second.type_name, second.queue)] == [("a", "main"), ("b", "other")]
    timer_task = next(iter(run.state.timers.values())).task_id
    assert done.created_task_ids == [first.task_id, timer_task, second.task_id]
    assert (done.run_id, done.run_status, run.state.status) == (RUN_ID, "waiting", "waiting")
    assert run.state.fan_out == 3


def test_steps_are_numbered_across_completions() -> None:
    run = RunModel()
    run.batch(activity("a"), activity("b"))
    run.succeed(run.claim_activity())
    run.batch(activity("c"), worker=PLAIN)
    assert run.new[0]["payload"]["sequence"] == 3


def test_terminal_command_is_applied_last_wherever_it_stands() -> None:
    run = RunModel()
    done = run.batch(finish(), activity("a"))
    assert run.new_types == ["ActivityScheduled", "WorkflowCompleted"]
    assert (done.run_status, run.rows) == ("completed", {})


def test_two_terminal_commands_are_refused_and_the_lease_stays() -> None:
    run = RunModel()
    grant = run.claim()
    refused = run.expect(Refused, completion(grant, finish(), activity(), finish()))
    assert refused.reason == "invalid_commands" and not run.changed
    run.complete(grant, finish())


def test_wait_states_come_with_the_resume_context() -> None:
    run = RunModel()
    run.batch(activity("a"), StartTimer(3))
    attempt = run.claim_activity()
    run.succeed(attempt)
    grant = run.claim(PLAIN)
    assert grant.run_status == "waiting"
    assert resume_of(grant) == {
        "workflow_wait_kind": "activity",
        "open_wait_id": f"activity:{attempt.activity_execution_id}",
        "resume_source_kind": "activity_execution",
        "resume_source_id": attempt.activity_execution_id,
        "activity_execution_id": attempt.activity_execution_id,
        "activity_attempt_id": attempt.activity_attempt_id,
        "activity_type": "a",
        "workflow_sequence": 1,
        "workflow_event_type": "ActivityCompleted",
    }
    # The timer fires under the leased task: its own task comes when that one ends.
    run.pass_time(3)
    run.wake()
    assert run.new_types == ["TimerFired"] and run.rows == {}
    timer_id = run.new[0]["payload"]["timer_id"]
    run.complete(grant, activity("b"))
    assert resume_of(run.claim(PLAIN)) == {
        "workflow_wait_kind": "timer",
        "open_wait_id": f"timer:{timer_id}",
        "resume_source_kind": "timer",
        "resume_source_id": timer_id,
        "timer_id": timer_id,
        "workflow_sequence": 2,
        "workflow_event_type": "TimerFired",
    }


def test_what_arrives_before_a_claim_shares_its_task() -> None:
    run = RunModel()
    run.batch(activity("a"), activity("b"))
    first, second = run.claim_activity(at=0), run.claim_activity(at=0)
    task_one = run.succeed(first)
    task_two = run.succeed(second)
    assert task_one == task_two and len(run.rows) == 1
    assert resume_of(run.claim())["activity_type"] == "a"


def test_a_run_with_nothing_open_gets_a_plain_task() -> None:
    run = RunModel(dialect=None)
    run.batch(activity("a"))
    run.succeed(run.claim_activity())
    # The worker says again what it said before, though everything is resolved: new steps by rule, so use none at all.
    grant = run.claim()
    done = run.complete(grant)
    assert run.new == [] and len(done.created_task_ids) == 1
    assert resume_of(run.claim()) == {}


# -- lease fencing -----------------------------------------------------------------------------------------------------


def test_ownership_errors_in_their_order() -> None:
    run = RunModel()
    first = run.claim()
    calls = (
        lambda **c: completion(first, finish(), **c),
        lambda owner=None, attempt=None: HeartbeatWorkflowTask(first.task_id, owner or PYTHON.worker_id, attempt or 1),
        lambda owner=None, attempt=None: FailWorkflowTask(first.task_id, owner or PYTHON.worker_id, attempt or 1, "no"),
        lambda owner=None, attempt=None: CheckLease(first.task_id, owner or PYTHON.worker_id, attempt or 1),
    )
    assert run.tell(calls[3]()) == Done() and not run.changed
    stray = HeartbeatWorkflowTask(ids.mint(START // 1000 + 10**6, ids.key_in(RUN_ID), ids.WORKFLOW_TASK), "x", 1)
    assert run.expect(Refused, stray).reason == "task_not_found"
    activity_like = HeartbeatWorkflowTask(first.task_id[:-1] + ids.ACTIVITY_TASK, PYTHON.worker_id, 1)
    assert run.expect(Refused, activity_like).reason == "task_not_found"
    for call in calls:
        wrong_owner = run.expect(Refused, call(owner="thief", attempt=7))
        assert (wrong_owner.reason, wrong_owner.detail) == ("lease_owner_mismatch", {"lease_owner": "python-1"})
        wrong_attempt = run.expect(Refused, call(attempt=7))
        assert (wrong_attempt.reason, wrong_attempt.detail) == ("workflow_task_attempt_mismatch", {"current_attempt": 1})
        assert not run.changed
    # Expired stands before owner and attempt, and recovers the task.
    run.pass_time(60)
    expired = run.expect(Refused, calls[0](owner="thief", attempt=7))
    assert expired.reason == "lease_expired"
    assert expired.detail == {
        "task_status": "leased",
        "lease_owner": "python-1",
        "lease_expires_at": "2026-04-20T09:16:00.250000Z",
    }
    assert run.new_types == ["RepairRequested"]
    for call in calls:
        assert run.expect(Refused, call()).reason == "task_not_leased"
    # Claimed by another worker, then by the same one again.
    again = run.claim(OTHER)
    assert (again.task_id, again.workflow_task_attempt) == (first.task_id, 2)
    assert run.expect(Refused, calls[0]()).reason == "lease_owner_mismatch"
    run.tell(ReleaseClaim(again.task_id, OTHER.worker_id, 2))
    run.claim(PYTHON)
    assert run.expect(Refused, calls[0]()).reason == "workflow_task_attempt_mismatch"


def test_calls_on_a_closed_run() -> None:
    run = RunModel(run_timeout_seconds=10)
    grant = run.claim()
    run.pass_time(10)
    run.wake()
    refused = run.expect(Refused, completion(grant, finish()))
    assert refused.reason == "run_closed"
    assert refused.detail == {
        "stop_reason": "run_failed",
        "cancel_requested": False,
        "can_continue": False,
        "run_status": "failed",
        "run_closed_reason": "timed_out",
        "run_closed_at": "2026-04-20T09:15:10.250000Z",
        "task_status": "cancelled",
        "lease_owner": "python-1",
        "lease_expires_at": None,
    }
    own = RunModel()
    last = own.claim()
    own.complete(last, finish())
    detail = own.expect(Refused, completion(last, finish())).detail
    assert (detail["stop_reason"], detail["task_status"], detail["run_closed_reason"]) == (
        "run_completed",
        "completed",
        "completed",
    )


def test_second_completion_of_a_task_is_refused() -> None:
    run = RunModel()
    grant = run.claim()
    run.complete(grant, activity())
    assert run.expect(Refused, completion(grant, activity())).reason == "task_not_leased"
    assert not run.changed


def test_heartbeat_renews_by_a_full_period() -> None:
    run = RunModel()
    grant = run.claim()
    run.pass_time(59)
    renewed = run.expect(WorkflowTaskRenewed, HeartbeatWorkflowTask(grant.task_id, grant.lease_owner, 1))
    assert (renewed.lease_expires_at, renewed.run_status) == (run.now + 60 * SECOND, "pending")
    assert run.new == [] and run.wake_at == renewed.lease_expires_at
    run.pass_time(59)
    run.complete(grant, finish())


def test_lease_expiry_is_repaired_with_the_same_task() -> None:
    run = RunModel()
    run.batch(activity("a"))
    attempt = run.claim_activity()
    run.succeed(attempt)
    grant = run.claim()
    run.pass_time(60)
    run.wake()
    assert run.new_types == ["RepairRequested"]
    payload = run.new[0]["payload"]
    assert payload == {
        "workflow_instance_id": "order-7",
        "workflow_run_id": RUN_ID,
        "command_type": "repair",
        "outcome": "repair_dispatched",
        "liveness_state": "repair_needed",
        "wait_kind": "workflow-task",
        "task_id": grant.task_id,
        "task_type": "workflow",
    }
    assert run.state.status == "waiting" and run.state.task is not None and run.state.task.repairs == 1
    second = run.claim(OTHER)
    assert (second.task_id, second.workflow_task_attempt, resume_of(second)) == (grant.task_id, 2, resume_of(grant))
    assert second.last_history_sequence == grant.last_history_sequence + 1
    assert [e["id"] for e in shown_events(second)][:-1] == [e["id"] for e in shown_events(grant)]


def test_failed_task_backs_off_and_never_gives_up() -> None:
    run = RunModel()
    task_id = run.row("workflow").task_id
    for number, delay in enumerate((3, 6, 12, 24, 48, 60, 60, 60), 1):
        grant = run.claim()
        assert (grant.task_id, grant.workflow_task_attempt) == (task_id, number)
        run.expect(WorkflowTaskFailed, FailWorkflowTask(task_id, "python-1", number, "bad replay", "Oops", "trace"))
        assert run.new == [] and run.state.status == "pending"
        assert run.row("workflow").available_at == run.now + delay * SECOND
        assert run.state.task is not None
        assert run.state.task.last_error == {"message": "bad replay", "type": "Oops", "stack_trace": "trace"}
        assert run.expect(Refused, FailWorkflowTask(task_id, "python-1", number, "again")).reason == "task_not_leased"
        run.pass_time(delay - 0.001)
        early = run.expect(NotDue, ClaimTask(task_id, PYTHON))
        assert early.available_at == run.row("workflow").available_at
        run.pass_time(0.001)
    # A completion starts the count anew, with its next task.
    run.batch(StartTimer(0))
    run.wake()
    grant = run.claim()
    run.tell(FailWorkflowTask(grant.task_id, "python-1", 1, "bad replay"))
    assert run.row("workflow").available_at == run.now + 3 * SECOND


def test_many_failures_do_not_overflow() -> None:
    run = RunModel()
    for _ in range(80):
        grant = run.claim()
        run.tell(FailWorkflowTask(grant.task_id, "python-1", grant.workflow_task_attempt, "no"))
        run.pass_time(60)


def test_release_hands_the_lease_back_without_a_trace() -> None:
    run = RunModel()
    grant = run.claim()
    for worker_id, attempt in (("thief", 1), ("python-1", 2)):
        assert run.expect(Refused, ReleaseClaim(grant.task_id, worker_id, attempt)).reason == "not_leased"
    assert not run.changed
    run.expect(Done, ReleaseClaim(grant.task_id, "python-1", 1))
    assert run.new == [] and run.row("workflow").available_at == run.now
    assert run.claim().workflow_task_attempt == 2


def test_reread_gives_the_same_snapshot() -> None:
    run = RunModel()
    run.batch(activity("a"), activity("b"))
    first, second = run.claim_activity(), run.claim_activity()
    run.succeed(first)
    grant = run.claim()
    run.succeed(second)
    run.pass_time(5)
    again = run.expect(WorkflowTaskGrant, RereadClaim(grant.task_id, PYTHON, 1))
    assert not run.changed
    assert (again.history_events, again.lease_expires_at, resume_of(again)) == (
        grant.history_events,
        grant.lease_expires_at,
        resume_of(grant),
    )
    assert again.last_history_sequence == grant.last_history_sequence
    for worker, attempt in ((OTHER, 1), (PYTHON, 2)):
        assert run.expect(Refused, RereadClaim(grant.task_id, worker, attempt)).reason == "not_leased"
    run.pass_time(55)
    assert run.expect(Refused, RereadClaim(grant.task_id, PYTHON, 1)).reason == "not_leased"


@pytest.mark.parametrize("worker", [PLAIN, PYTHON])
@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_pages_of_a_snapshot(worker: object, size: int) -> None:
    assert worker in (PLAIN, PYTHON)
    who = PLAIN if worker == PLAIN else PYTHON
    run = RunModel()
    run.batch(*(activity(f"a{n}") for n in range(4)))
    grants = [run.claim_activity() for _ in range(4)]
    for each in reversed(grants[1:]):
        run.succeed(each)
    run.batch(*(activity(f"a{n}") for n in range(4)), worker=who)
    run.succeed(grants[0])
    grant = run.claim(who, page=size)
    whole = shown_events(run.expect(WorkflowTaskGrant, RereadClaim(grant.task_id, who, 1, 1000)))
    run.tell(NoteDuplicateStart(start_command()))  # recorded later: no page may show it
    events, after = shown_events(grant), grant.next_after
    assert len(events) == grant.history_count == min(size, grant.last_history_sequence)
    while after is not None:
        page = run.expect(HistoryPage, page_of(grant, after, size))
        rows = orjson.loads(page.events)
        assert 0 < page.count == len(rows) <= size and page.total == grant.last_history_sequence
        events += rows
        after = page.next_after
    assert events == whole
    assert [event["sequence"] for event in events] == list(range(1, grant.last_history_sequence + 1))
    for beyond in (grant.last_history_sequence, grant.last_history_sequence + 50):
        end = run.expect(HistoryPage, page_of(grant, beyond, size))
        assert (end.events, end.count, end.next_after) == (b"[]", 0, None)
    assert run.expect(HistoryPage, page_of(grant, 0, size)).events == grant.history_events


def test_page_calls_are_fenced_too() -> None:
    run = RunModel()
    grant = run.claim()
    run.pass_time(60)
    assert run.expect(Refused, page_of(grant, 0)).reason == "lease_expired"


def test_nothing_due_is_said() -> None:
    run = RunModel()
    assert run.expect(Refused, WakeUp()).reason == "nothing_due"
    run.claim()
    run.pass_time(59.999)
    assert run.expect(Refused, WakeUp()).reason == "nothing_due"


def test_the_clock_never_runs_backwards_in_history() -> None:
    run = RunModel()
    run.pass_time(-30)
    run.batch(activity())
    times = [event["recorded_at"] for event in run.events()]
    assert times == sorted(times)
