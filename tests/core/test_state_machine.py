"""A run under every interleaving of calls, times and faults, judged by the invariants of engine-semantics 14."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.run.commands import WakeUp
from actors.run.commands.control import NoteDuplicateStart
from actors.run.commands.steps import FailWorkflow, ScheduleActivity, StartTimer, WorkflowCommand
from actors.run.commands.worker import (
    CheckLease,
    ClaimTask,
    FailWorkflowTask,
    HeartbeatActivity,
    HeartbeatWorkflowTask,
    ReleaseClaim,
    RereadClaim,
)
from actors.run.replies import (
    ActivityProgress,
    ActivityRecorded,
    ActivityTaskGrant,
    Done,
    HistoryPage,
    NotDue,
    Refused,
    RunReply,
    WorkflowTaskCompleted,
    WorkflowTaskFailed,
    WorkflowTaskGrant,
    WorkflowTaskRenewed,
)
from actors.run.values import RetryPolicy
from tests.core.harness import (
    OTHER,
    PLAIN,
    PYTHON,
    RunModel,
    blob,
    completion,
    failure_of,
    finish,
    page_of,
    result_of,
    search,
    start_command,
)
from tests.core.invariants import RESOLUTIONS, HistoryChecker
from tests.support.defaults import make_rules

RULES = make_rules(
    pending_activity_count=5,
    pending_timer_count=4,
    command_batch_size=4,
    payload_size_bytes=12,
    history_events=70,
)
WORKERS = st.sampled_from([PLAIN, PYTHON, OTHER])
SECONDS = st.sampled_from([None, None, None, 1, 5, 20, 90])

policies = st.none() | st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 4),
    backoff_seconds=st.lists(st.sampled_from([0, 1, 10]), max_size=2),
    non_retryable_error_types=st.lists(st.just("Bad"), max_size=1),
)
activities = st.builds(
    ScheduleActivity,
    activity_type=st.sampled_from(["a", "b"]),
    arguments=st.sampled_from([None, blob("ARGS"), blob("OTHER"), blob("MORE"), blob("TOO-LONG-ARGS")]),
    queue=st.sampled_from([None, "q2"]),
    retry_policy=policies,
    start_to_close_timeout=SECONDS,
    schedule_to_start_timeout=SECONDS,
    schedule_to_close_timeout=SECONDS,
    heartbeat_timeout=SECONDS,
)
plain_activities = st.builds(
    ScheduleActivity, activity_type=st.sampled_from(["a", "b"]), retry_policy=policies, heartbeat_timeout=SECONDS
)
timers = st.builds(StartTimer, st.sampled_from([0, 1, 10, 30]))
terminal: st.SearchStrategy[WorkflowCommand] = st.sampled_from([finish(), FailWorkflow("no")])
batches = st.lists(activities | timers, min_size=1, max_size=4) | st.lists(plain_activities | timers, min_size=2, max_size=3)
endings = st.tuples(batches, st.lists(terminal, min_size=1, max_size=2)).map(lambda pair: [*pair[1], *pair[0]]) | terminal.map(
    lambda end: [end]
)


def says(steps: list[WorkflowCommand]) -> list[tuple[Any, ...]]:
    """What makes two batches the same one (engine-semantics 3.2): no other option of a command does."""
    return [
        (step.activity_type, step.queue or "main", step.arguments)
        if isinstance(step, ScheduleActivity)
        else (step.delay_seconds,)
        if isinstance(step, StartTimer)
        else (step,)
        for step in steps
    ]


class Life(RuleBasedStateMachine):
    """One run, its workers, its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.run: RunModel
        self.watch: HistoryChecker
        # Every grant there ever was: calls with old ones are the stale calls.
        self.tasks: list[WorkflowTaskGrant] = []
        self.attempts: list[ActivityTaskGrant] = []
        self.finished: set[str] = set()
        self.batch: list[WorkflowCommand] = []
        self.dialects: dict[tuple[str, int], str] = {}

    @initialize(
        run_timeout=st.sampled_from([None, None, None, 400]),
        execution_timeout=st.sampled_from([None, None, None, 500]),
        worker=WORKERS,
        steps=st.lists(plain_activities | timers, min_size=1, max_size=3),
        capped=st.booleans(),
    )
    def start(
        self,
        run_timeout: int | None,
        execution_timeout: int | None,
        worker: Any,
        steps: list[WorkflowCommand],
        capped: bool,
    ) -> None:
        """Most of what can go wrong needs something under way: a first batch belongs to the start."""
        self.run = RunModel(RULES, run_timeout_seconds=run_timeout, execution_timeout_seconds=execution_timeout)
        self.run.capped = capped
        self.watch = HistoryChecker(self.run)
        self.watch.read()
        self.claim(worker)
        self.told(self.tasks[-1], steps)

    def tell(self, command: Any) -> RunReply:
        before = self.run.state
        reply = self.run.tell(command)
        self.watch.read()
        after = self.run.state
        lease = self.watch.lease
        if lease is not None and (after.task is None or after.task.status != "leased"):
            self.watch.lease_ended(completed=isinstance(reply, WorkflowTaskCompleted))
        if "RepairRequested" in self.run.new_types or isinstance(command, FailWorkflowTask):
            closed = not after.is_open and before.is_open
            assert after.steps == before.steps and (closed or after.status == before.status), "25"
        if isinstance(reply, Refused) and self.run.new:
            # What may be recorded although the call is refused: what time has brought about.
            assert reply.reason in ("lease_expired", "run_timed_out", "not_ready"), reply
        return reply

    # -- workflow tasks ------------------------------------------------------------------------------------------------

    @precondition(lambda self: any(row.kind == "workflow" for row in self.run.rows.values()))
    @rule(worker=WORKERS)
    def claim(self, worker: Any) -> None:
        row = self.run.row("workflow")
        reply = self.tell(ClaimTask(row.task_id, worker))
        assert isinstance(reply, NotDue) == (row.available_at > self.run.now)
        if isinstance(reply, NotDue):
            assert reply.available_at == row.available_at
            return
        if isinstance(reply, Refused):
            assert reply.reason == "not_ready"
            return
        assert isinstance(reply, WorkflowTaskGrant) and self.run.new == []
        self.watch.granted(reply, worker.dialect)
        self.tasks.append(reply)
        self.dialects[reply.task_id, reply.workflow_task_attempt] = worker.dialect

    def live(self) -> WorkflowTaskGrant | None:
        return None if self.watch.lease is None else self.watch.lease.grant

    def unresolved_in_snapshot(self) -> bool:
        assert self.watch.lease is not None
        batch = self.watch.batches[-1]
        return any((self.watch.steps[number].resolution_id or "") not in self.watch.lease.shown for number in batch)

    def told(self, grant: WorkflowTaskGrant, steps: list[WorkflowCommand]) -> None:
        """Complete a live task and judge the answer."""
        run, before = self.run, self.run.state
        rows = set(run.rows)
        expired = self.watch.lease is not None and self.watch.lease.ends <= run.now
        can_repeat = self.dialects[grant.task_id, grant.workflow_task_attempt] == "0.4" and bool(self.batch)
        repeats = can_repeat and says(steps) == says(self.batch) and self.unresolved_in_snapshot()
        reply = self.tell(completion(grant, *steps))
        if expired:
            assert isinstance(reply, Refused) and reply.reason == "lease_expired"
            return
        ends = [step for step in steps if not isinstance(step, ScheduleActivity | StartTimer)]
        if isinstance(reply, Refused):
            if reply.reason == "run_timed_out":
                return
            reason = "invalid_commands" if len(ends) > 1 else "structural_limit_exceeded"
            assert reply.reason == reason and not run.changed
            assert reason == "invalid_commands" or not repeats, "26: a repetition is bound by no limit"
            return
        assert isinstance(reply, WorkflowTaskCompleted) and len(ends) <= 1
        after = run.state
        opened = [event for event in run.new if event["event_type"] in ("ActivityScheduled", "TimerScheduled")]
        new_timers = {timer.task_id for timer in after.timers.values()} - {timer.task_id for timer in before.timers.values()}
        if after.is_open:
            assert set(reply.created_task_ids) == (set(run.rows) - rows) | new_timers, "32"
            assert len(set(reply.created_task_ids)) == len(reply.created_task_ids)
        assert reply.run_status == after.status != "pending"
        if repeats:
            assert not run.new and after.steps == before.steps and set(before.activities) == set(after.activities), "26"
        else:
            assert len(opened) == len(steps) - len(ends) and len(run.new) == len(steps)
            if opened:
                self.batch = [step for step in steps if step not in ends]

    @precondition(lambda self: self.live() is not None)
    @rule(steps=batches)
    def complete(self, steps: list[WorkflowCommand]) -> None:
        grant = self.live()
        assert grant is not None
        self.told(grant, steps)

    @precondition(lambda self: self.live() is not None and self.batch)
    @rule()
    def complete_again(self) -> None:
        """What a 0.4 worker does while its batch is unresolved, and others only by chance."""
        grant = self.live()
        assert grant is not None
        self.told(grant, list(self.batch))

    @precondition(lambda self: self.live() is not None and len(self.run.history) > 25)
    @rule(steps=endings)
    def end(self, steps: list[WorkflowCommand]) -> None:
        grant = self.live()
        assert grant is not None
        self.told(grant, steps)

    @precondition(lambda self: self.tasks)
    @rule(at=st.integers(0, 99), how=st.sampled_from(["complete", "fail", "heartbeat", "page", "check", "release", "reread"]))
    def stale_call(self, at: int, how: str) -> None:
        """A call with any grant but the live one changes nothing (13, 27, 30)."""
        grant = self.tasks[at % len(self.tasks)]
        if grant is self.live():
            return
        self.call(grant, how, stale=True)

    @precondition(lambda self: self.live() is not None)
    @rule(how=st.sampled_from(["fail", "heartbeat", "page", "check", "release", "reread"]))
    def live_call(self, how: str) -> None:
        grant = self.live()
        assert grant is not None
        self.call(grant, how, stale=False)

    def call(self, grant: WorkflowTaskGrant, how: str, *, stale: bool) -> None:
        task_id, owner, attempt = grant.task_id, grant.lease_owner, grant.workflow_task_attempt
        lease = self.watch.lease
        expired = lease is not None and lease.ends <= self.run.now
        worker = next(each for each in (PLAIN, PYTHON, OTHER) if each.worker_id == owner)
        command = {
            "complete": completion(grant, finish()),
            "fail": FailWorkflowTask(task_id, owner, attempt, "bad"),
            "heartbeat": HeartbeatWorkflowTask(task_id, owner, attempt),
            "page": page_of(grant, 0),
            "check": CheckLease(task_id, owner, attempt),
            "release": ReleaseClaim(task_id, owner, attempt),
            "reread": RereadClaim(task_id, worker, attempt),
        }[how]
        reply = self.tell(command)
        if stale or (expired and how != "release"):
            allowed = "not_leased" if how in ("reread", "release") else "lease_expired" if expired else None
            assert isinstance(reply, Refused)
            assert not self.run.changed or (expired and self.run.new_types == ["RepairRequested"])
            assert not expired or stale or reply.reason == allowed
            assert how != "release" or (reply.reason == allowed and not self.run.changed)
            return
        assert not self.run.new
        if how == "fail":
            assert isinstance(reply, WorkflowTaskFailed)
        elif how == "heartbeat":
            assert isinstance(reply, WorkflowTaskRenewed) and lease is not None
            lease.ends = reply.lease_expires_at
            assert lease.ends == self.run.now + RULES.workflow_task_lease * 1_000_000
        elif how == "check":
            assert reply == Done() and not self.run.changed
        elif how == "release":
            assert isinstance(reply, Done)
        elif how == "page":
            assert isinstance(reply, HistoryPage) and reply.events == grant.history_events, "8"
        elif how == "reread":
            assert isinstance(reply, WorkflowTaskGrant) and reply.history_events == grant.history_events, "8"

    def has_due(self, kind: str) -> bool:
        """Whether a task of a kind can be claimed right now."""
        return any(row.kind == kind and row.available_at <= self.run.now for row in self.run.rows.values())

    @precondition(lambda self: self.has_due("workflow"))
    @rule(
        worker=WORKERS,
        steps=batches,
        again=st.sampled_from([True, True, False]),
        meanwhile=st.sampled_from(["", "", "wake", "outcome", "expire"]),
    )
    def round_of_a_worker(self, worker: Any, steps: list[WorkflowCommand], again: bool, meanwhile: str) -> None:
        """Claim and answer, as workers mostly do: with the old batch while it is unresolved. Others go on meanwhile."""
        self.claim(worker)
        if meanwhile == "wake":
            self.run.pass_time(10)
            self.wake(to_the_point=False)
        elif meanwhile == "outcome" and self.attempts:
            self.outcome(0, "ok", thief=False)
        elif meanwhile == "expire":
            self.run.pass_time(60)
        grant = self.live()
        if grant is not None:
            repeat = again and worker is not PLAIN and bool(self.batch) and self.unresolved_in_snapshot()
            self.told(grant, list(self.batch) if repeat else steps)

    @precondition(lambda self: self.has_due("activity"))
    @rule(
        worker=WORKERS,
        at=st.integers(0, 9),
        how=st.sampled_from(["ok", "ok", "fail", "lost", "beat", "goes on"]),
        seconds=st.sampled_from([0, 0, 1, 20]),
    )
    def round_of_an_activity(self, worker: Any, at: int, how: str, seconds: int) -> None:
        """Claim an attempt and end it, or lose it."""
        before = len(self.attempts)
        self.claim_activity(worker, at)
        if len(self.attempts) == before:
            return
        self.run.pass_time(seconds)
        if how == "beat":
            self.attempt_call(0, "heartbeat")
        if how == "lost":
            self.run.pass_time(301)
            self.wake(to_the_point=False)
        elif how != "goes on":
            self.outcome(0, "fail" if how == "fail" else "ok", thief=False)

    # -- activities ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: any(row.kind == "activity" for row in self.run.rows.values()))
    @rule(worker=WORKERS, at=st.integers(0, 9))
    def claim_activity(self, worker: Any, at: int) -> None:
        ready = sorted(row.task_id for row in self.run.rows.values() if row.kind == "activity")
        reply = self.tell(ClaimTask(ready[at % len(ready)], worker))
        if isinstance(reply, ActivityTaskGrant):
            assert self.run.new_types == ["ActivityStarted"]
            self.attempts.append(reply)
        else:
            assert isinstance(reply, Refused | NotDue)
            assert self.run.new_types in ([], ["ActivityRetryScheduled"], ["ActivityTimedOut"])

    @precondition(lambda self: self.attempts)
    @rule(
        at=st.integers(0, 99),
        how=st.sampled_from(["ok", "ok", "too-large", "fail", "fail", "fatal", "bad"]),
        thief=st.sampled_from([False, False, False, True]),
    )
    def outcome(self, at: int, how: str, thief: bool) -> None:
        grant = self.attempts[-1 - at % len(self.attempts)]
        owner = "thief" if thief else grant.lease_owner
        if how in ("ok", "too-large"):
            call: Any = result_of(grant, "R" if how == "ok" else "R" * 13)
        else:
            call = failure_of(grant, non_retryable=how == "fatal", type="Bad" if how == "bad" else None)
        call = type(call)(call.task_id, call.attempt_id, owner, *[getattr(call, name) for name in call.__struct_fields__[3:]])
        open_before = self.run.state.is_open
        reply = self.tell(call)
        if isinstance(reply, Refused):
            assert reply.reason in ("stale_attempt", "lease_owner_mismatch") and not self.run.new, "13"
            return
        assert isinstance(reply, ActivityRecorded) and not thief
        assert grant.activity_attempt_id not in self.finished, "13: two outcomes of one attempt"
        self.finished.add(grant.activity_attempt_id)
        assert len(self.run.new) == (1 if open_before else 0), "13"
        if not open_before:
            assert reply.next_task_id is None
        elif self.run.new_types[0] in RESOLUTIONS:
            assert reply.next_task_id is None or reply.next_task_id in self.run.rows
        else:
            assert reply.next_task_id in self.run.rows

    @precondition(lambda self: self.attempts)
    @rule(at=st.integers(0, 99), how=st.sampled_from(["heartbeat", "release", "reread"]))
    def attempt_call(self, at: int, how: str) -> None:
        grant = self.attempts[-1 - at % len(self.attempts)]
        worker = next(each for each in (PLAIN, PYTHON, OTHER) if each.worker_id == grant.lease_owner)
        open_before = self.run.state.is_open
        if how == "heartbeat":
            beat = HeartbeatActivity(grant.task_id, grant.activity_attempt_id, grant.lease_owner, {"message": "m"})
            reply = self.tell(beat)
            assert isinstance(reply, ActivityProgress) and reply.heartbeat_recorded == reply.can_continue == (
                reply.reason is None
            )
            assert self.run.new_types == (["ActivityHeartbeatRecorded"] if reply.heartbeat_recorded else [])
            assert open_before or not reply.heartbeat_recorded
        elif how == "release":
            reply = self.tell(ReleaseClaim(grant.task_id, grant.lease_owner, grant.attempt_number))
            assert not self.run.new
            if not isinstance(reply, Done):
                assert isinstance(reply, Refused) and reply.reason == "not_leased" and not self.run.changed
        else:
            reply = self.tell(RereadClaim(grant.task_id, worker, grant.attempt_number))
            assert not self.run.changed
            if isinstance(reply, ActivityTaskGrant):
                assert reply.activity_attempt_id == grant.activity_attempt_id and reply.arguments == grant.arguments

    # -- time and starts -----------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0, 0.5, 1, 5, 20, 61, 301]))
    def pass_time(self, seconds: float) -> None:
        self.run.pass_time(seconds)

    @rule(seconds=st.sampled_from([0.5, 1, 30, 4000]))
    def clock_goes_back(self, seconds: float) -> None:
        """It was ahead: the run goes on as if it had not been, and its recorded times stay in order."""
        self.run.pass_time(-seconds)
        self.tell(WakeUp())
        task, lease = self.run.state.task, self.watch.lease
        if lease is not None and task is not None:
            lease.ends = task.lease_expires_at
        if seconds > 1:
            self.nothing_waits_for_the_old_clock()

    def nothing_waits_for_the_old_clock(self) -> None:
        state, now = self.run.state, self.run.now
        if not state.is_open or state.recorded_at <= now + 1_000_000:
            return
        for at in (row.available_at for row in self.run.rows.values()):
            assert at <= now + 60_000_000, "a task waits longer than the longest backoff"
        for timer in state.timers.values():
            assert timer.due <= now + timer.delay_seconds * 1_000_000
        for each in state.activities.values():
            assert each.status != "running" or each.lease_expires_at <= now + RULES.activity_task_lease * 1_000_000

    @rule(to_the_point=st.booleans())
    def wake(self, to_the_point: bool) -> None:
        if to_the_point and self.run.wake_at is not None:
            self.run.now = max(self.run.now, self.run.wake_at)
        due = self.run.wake_at is not None and self.run.wake_at <= self.run.now
        reply = self.tell(WakeUp())
        assert isinstance(reply, Done) == due, "14: due is enforced, and nothing else"
        assert self.run.wake_at is None or self.run.wake_at > self.run.now, "14: something due was left"

    @rule(policy=st.sampled_from(["fail", "use-existing"]))
    @precondition(lambda self: len(self.run.history) % 7 == 0)
    def start_again(self, policy: str) -> None:
        rows = dict(self.run.rows)
        self.tell(NoteDuplicateStart(start_command(duplicate_policy=policy)))
        assert len(self.run.new) == (1 if self.run.state.is_open else 0) and self.run.rows == rows

    @invariant()
    def holds(self) -> None:
        if hasattr(self, "watch"):
            self.watch.check()

    def teardown(self) -> None:
        """Whatever happened, patient workers bring the run to its end."""
        if not hasattr(self, "watch"):
            return
        for _ in range(400):
            state = self.run.state
            if not state.is_open:
                break
            grant = self.live()
            if grant is not None and self.watch.lease is not None and self.watch.lease.ends > self.run.now:
                python = self.dialects[grant.task_id, grant.workflow_task_attempt] == "0.4"
                waits = python and bool(self.batch) and self.unresolved_in_snapshot()
                self.told(grant, list(self.batch) if waits else [finish()])
            elif any(row.kind == "workflow" and row.available_at <= self.run.now for row in self.run.rows.values()):
                self.claim(PYTHON)
            elif any(row.kind == "activity" and row.available_at <= self.run.now for row in self.run.rows.values()):
                due = [
                    row.task_id for row in self.run.rows.values() if row.kind == "activity" and row.available_at <= self.run.now
                ]
                reply = self.tell(ClaimTask(due[0], PYTHON))
                if isinstance(reply, ActivityTaskGrant):
                    self.attempts.append(reply)
                    self.tell(result_of(reply, "R"))
            else:
                times = [row.available_at for row in self.run.rows.values()]
                times += [self.run.wake_at] if self.run.wake_at is not None else []
                assert times, "an open run that nothing can ever wake"
                self.run.now = max(self.run.now, min(times))
                self.tell(WakeUp())
            self.watch.check()
        assert not self.run.state.is_open, "the run never ended"


Life.TestCase.settings = search(300, stateful_step_count=50)
TestLife = Life.TestCase
