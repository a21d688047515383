"""Several runs under every interleaving of calls, letters, times and faults, judged by engine-semantics 14."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from actors.run.commands import (
    TERMINAL_STEPS,
    ArchiveRun,
    CancelRun,
    ClaimTask,
    CompleteUpdate,
    FailUpdate,
    FailWorkflowTask,
    NoteDuplicateStart,
    ReadUpdate,
    ReleaseClaim,
    RepairRun,
    SignalRun,
    Steps,
    TerminateRun,
    UpdateRun,
    WakeUp,
    WorkerIdentity,
)
from actors.run.replies import (
    ActivityRecorded,
    ActivityTaskGrant,
    CommandAnswered,
    Done,
    Refused,
    UpdateStatus,
    WorkflowTaskCompleted,
    WorkflowTaskGrant,
)
from actors.run.rules import Rules
from tests.core import batches
from tests.core.harness import OTHER, PLAIN, PYTHON, completion, failure_of, finish, result_of, search, start_command
from tests.core.step_book import RESOLUTIONS
from tests.core.world import Member, World

RULES = Rules(
    max_pending_activities=4,
    max_pending_timers=3,
    max_pending_children=3,
    max_pending_signals=6,
    max_pending_updates=3,
    max_history_events=150,
    shards=4,
)
MANY = 8
PLACES = st.integers(0, 30)
RARELY = st.sampled_from([False, False, False, False, True])
COMMANDS = st.sampled_from(["repair", "repair", "repair", "archive", "again", "cancel", "terminate"])


class Lives(RuleBasedStateMachine):
    """A few runs, their workers, those who call them, and the post between them."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World(RULES)
        self.fleet: list[WorkerIdentity] = [PYTHON]
        self.request = 0

    @initialize(
        fleet=st.sampled_from([[PYTHON, OTHER], [PYTHON, OTHER], [PLAIN], [PYTHON, PLAIN]]),
        run_timeout=st.sampled_from([None, None, 400]),
        first=batches.batches,
        second=batches.children,
    )
    def start(self, fleet: list[WorkerIdentity], run_timeout: int | None, first: list[Steps], second: Steps) -> None:
        self.fleet = fleet
        member = self.world.begin("order-1", run_timeout_seconds=run_timeout)
        self.work(member, 0, first)
        self.work(self.world.begin("order-2"), 0, [second])

    # -- choosing ------------------------------------------------------------------------------------------------------

    def members(self, what: Any = lambda member: member.is_open) -> list[Member]:
        return [member for member in self.world.members.values() if what(member)]

    def pick(self, at: int, what: Any = lambda member: member.is_open) -> Member | None:
        """A run that something holds for, the newest ones first."""
        found = self.members(what)
        return found[-1 - at % len(found)] if found else None

    # -- workflow workers ----------------------------------------------------------------------------------------------

    def claim(self, member: Member, worker: WorkerIdentity) -> None:
        task_id = member.due("workflow")[0]
        reply = self.world.tell(member, ClaimTask(task_id, worker, 3 if member.run.state.steps % 2 else 500))
        if isinstance(reply, WorkflowTaskGrant):
            if reply.next_after is None:
                member.watch.granted(reply, worker.dialect)
            else:
                whole = self.world.tell(member, ReleaseClaim(task_id, worker.worker_id, reply.workflow_task_attempt))
                assert isinstance(whole, Done)
                member.watch.attempts[task_id] = reply.workflow_task_attempt
                reply = member.run.expect(WorkflowTaskGrant, ClaimTask(task_id, worker))
                member.watch.granted(reply, worker.dialect)
            member.tasks.append(reply)
        else:
            assert isinstance(reply, Refused) and reply.reason == "not_ready" and not member.is_open, reply

    def work(self, member: Member, at: int, steps: list[Steps], again: bool = False, meanwhile: str = "") -> None:
        """A worker claims a task and answers it, while others go on."""
        self.claim(member, self.fleet[at % len(self.fleet)])
        if meanwhile == "signal":
            self.signal(member)
        elif meanwhile == "update":
            self.update(member, None)
        elif meanwhile == "time":
            self.world.clock.now += 5_000_000
            self.wake(member)
        elif meanwhile == "outcome" and member.attempts:
            self.outcome(member, 0, "ok")
        elif meanwhile == "lost":
            self.world.clock.now += 61_000_000
            self.wake(member)
        lease = member.watch.lease
        if lease is None:
            return
        update_id = lease.update_id
        if update_id is not None:
            done: Steps = FailUpdate(update_id, "no") if again else CompleteUpdate(update_id, None)
            answer = [done]
        elif again and self.unresolved(member):
            answer = list(member.batch)
        elif again and member.run.state.wait is not None:
            wait = member.run.state.wait
            answer = [batches.OpenConditionWait(wait.key, wait.fingerprint, wait.timeout_seconds)]
        else:
            answer = steps
        self.answer(member, answer)

    @staticmethod
    def unresolved(member: Member) -> bool:
        """Whether a 0.4 worker holds a snapshot that leaves a step of the current batch open."""
        lease, watch = member.watch.lease, member.watch
        if lease is None or not member.batch or lease.dialect != "0.4":
            return False
        return any((watch.steps[number].resolution_id or "") not in lease.shown for number in watch.batches[-1])

    def answer(self, member: Member, steps: list[Steps]) -> None:
        """Complete the leased task; the contract says what must come of it."""
        run, watch = member.run, member.watch
        lease, before = watch.lease, run.state
        assert lease is not None
        rows, queue = set(run.rows), before.task_queue
        normal = lease.update_id is None
        terminal = [step for step in steps if isinstance(step, TERMINAL_STEPS)]
        repeats = normal and self.unresolved(member) and batches.says(steps, queue) == batches.says(member.batch, queue)
        wait = before.wait
        reopens = normal and wait is not None and batches.reopens(steps, wait.key, wait.fingerprint)
        reply = self.world.tell(member, completion(lease.grant, *steps))
        if isinstance(reply, Refused):
            assert reply.reason in ("lease_expired", "run_timed_out", "structural_limit_exceeded"), reply
            assert reply.reason != "structural_limit_exceeded" or not (run.changed or repeats), "26"
            return
        assert isinstance(reply, WorkflowTaskCompleted)
        after = run.state
        own = [event["event_type"] for event in run.new]
        expected = batches.records(steps)
        if repeats:
            expected = []
        elif reopens and not watch.view.mixed:
            expected = expected if lease.news else []
        elif reopens:
            expected = expected if own else []
        elif normal and wait is not None and not (len(steps) == 1 and isinstance(steps[0], batches.FailWorkflow)):
            cancelled = ["TimerCancelled"] if wait.timer_id is not None else []
            expected = ["ConditionWaitSatisfied", *cancelled, *expected]
        tail = [kind for kind in own[len(expected) :] if kind not in ("UpdateCompleted", "ParentClosePolicyApplied")]
        assert own[: len(expected)] == expected and not tail, f"2.5: {own} of {steps}"
        assert terminal or own == expected
        if expected == [] and not terminal:
            assert after.steps == before.steps, "26: a repetition leaves steps unchanged"
        self.created(member, reply, rows, before, after)
        group = [step for step in steps if isinstance(step, batches.ScheduleActivity | batches.StartTimer | batches.StartChild)]
        if group and not repeats:
            member.batch = group

    @staticmethod
    def created(member: Member, reply: WorkflowTaskCompleted, rows: set[str], before: Any, after: Any) -> None:
        """32: exactly the tasks that the completion made, the children's excepted, which their own transitions make."""
        run = member.run
        assert reply.run_status == after.status != "pending"
        ids = reply.created_task_ids
        assert len(set(ids)) == len(ids), "32"
        if run.successor is not None and after.closed_reason == "continued":
            assert ids[-1:] == list(run.successor.rows), "32"
        if after.is_open:
            timers = {timer.task_id for timer in after.timers.values()} - {timer.task_id for timer in before.timers.values()}
            old = None if before.wait is None else before.wait.timer_task_id
            if after.wait is not None and after.wait.timer_task_id not in (None, old):
                timers.add(after.wait.timer_task_id or "")
            assert set(ids) == (set(run.rows) - rows) | timers, "32"

    @precondition(lambda self: self.members(lambda member: member.due("workflow")))
    @rule(
        at=PLACES,
        worker=PLACES,
        steps=batches.batches,
        again=st.booleans(),
        meanwhile=st.sampled_from(["", "", "", "signal", "signal", "update", "time", "outcome", "lost"]),
    )
    def round_of_a_worker(self, at: int, worker: int, steps: list[Steps], again: bool, meanwhile: str) -> None:
        member = self.pick(at, lambda member: member.due("workflow"))
        assert member is not None
        self.work(member, worker, steps, again, meanwhile)

    @precondition(lambda self: self.members(lambda member: member.due("workflow") and member.run.state.steps > 1))
    @rule(at=PLACES, worker=PLACES, steps=batches.endings)
    def end(self, at: int, worker: int, steps: list[Steps]) -> None:
        member = self.pick(at, lambda member: member.due("workflow") and member.run.state.steps > 1)
        assert member is not None
        if len(self.world.members) < MANY or not isinstance(steps[0], batches.ContinueAsNew):
            self.work(member, worker, steps)

    @precondition(lambda self: self.members(lambda member: member.due("workflow")))
    @rule(at=PLACES, worker=PLACES, how=st.sampled_from(["keep", "fail", "release"]))
    def claim_and(self, at: int, worker: int, how: str) -> None:
        """A lease that comes to nothing, or not yet."""
        member = self.pick(at, lambda member: member.due("workflow"))
        assert member is not None
        self.claim(member, self.fleet[worker % len(self.fleet)])
        lease = member.watch.lease
        if lease is None or how == "keep":
            return
        before, grant = member.run.state, lease.grant
        owner, attempt = grant.lease_owner, grant.workflow_task_attempt
        if how == "fail":
            self.world.tell(member, FailWorkflowTask(grant.task_id, owner, attempt, "bad"))
        else:
            self.world.tell(member, ReleaseClaim(grant.task_id, owner, attempt))
        after = member.run.state
        assert not member.run.new and after.steps == before.steps and after.status == before.status, "25"

    @precondition(lambda self: self.members(lambda member: member.watch.lease is not None))
    @rule(at=PLACES, steps=batches.batches)
    def answer_late(self, at: int, steps: list[Steps]) -> None:
        member = self.pick(at, lambda member: member.watch.lease is not None)
        assert member is not None and member.watch.lease is not None
        update_id = member.watch.lease.update_id
        self.answer(member, steps if update_id is None else [CompleteUpdate(update_id)])

    @precondition(lambda self: self.members(lambda member: member.tasks))
    @rule(at=PLACES, which=PLACES)
    def answer_again(self, at: int, which: int) -> None:
        """27, 30: a completion with any lease but the live one changes nothing."""
        member = self.pick(at, lambda member: member.tasks)
        assert member is not None
        grant = member.tasks[which % len(member.tasks)]
        lease = member.watch.lease
        if lease is not None and lease.grant is grant:
            return
        late = lease is not None and lease.ends <= member.run.now
        reply = self.world.tell(member, completion(grant, finish()))
        assert isinstance(reply, Refused)
        assert not member.run.changed or (late and member.run.new_types == ["RepairRequested"]), "27"

    # -- activities ----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.members(lambda member: member.due("activity")))
    @rule(at=PLACES, how=st.sampled_from(["ok", "ok", "fail", "goes on", "goes on"]))
    def attempt(self, at: int, how: str) -> None:
        member = self.pick(at, lambda member: member.due("activity"))
        assert member is not None
        reply = self.world.tell(member, ClaimTask(member.due("activity")[0], PYTHON))
        if isinstance(reply, ActivityTaskGrant):
            member.attempts.append(reply)
            if how != "goes on":
                self.outcome(member, 0, how)

    def outcome(self, member: Member, at: int, how: str) -> None:
        grant = member.attempts[-1 - at % len(member.attempts)]
        open_before = member.is_open
        reply = self.world.tell(member, result_of(grant, "R") if how == "ok" else failure_of(grant))
        if isinstance(reply, Refused):
            assert not member.run.new, "13"
            return
        assert isinstance(reply, ActivityRecorded) and len(member.run.new) == (1 if open_before else 0), "13"
        if member.run.new and member.run.new_types[0] in RESOLUTIONS:
            assert reply.next_task_id is None or reply.next_task_id in member.run.rows

    @precondition(lambda self: self.members(lambda member: member.attempts))
    @rule(at=PLACES, which=PLACES, how=st.sampled_from(["ok", "fail"]))
    def late_outcome(self, at: int, which: int, how: str) -> None:
        member = self.pick(at, lambda member: member.attempts)
        assert member is not None
        self.outcome(member, which, how)

    # -- inputs --------------------------------------------------------------------------------------------------------

    def signal(self, member: Member, to_run: bool = False) -> None:
        before = member.run.state
        reply = self.world.tell(member, SignalRun(name="go", to_run=to_run))
        assert isinstance(reply, CommandAnswered)
        if not before.is_open:
            assert reply.rejection == "run_not_active"
        elif len(before.signals) >= RULES.max_pending_signals:
            assert reply.rejection == "structural_limit_exceeded", "29"
        else:
            assert member.run.new_types == ["SignalReceived"], "16"
            assert (before.wait is not None and before.open_task is None) == (
                before.open_task is None and member.run.state.open_task is not None
            ), "7.2"
            if to_run:
                self.world.run_scoped.add(member.run.new[0]["payload"]["signal_id"])

    def update(self, member: Member, request_id: str | None, to_run: bool = False) -> None:
        before = member.run.state
        reply = self.world.tell(member, UpdateRun(name="set", request_id=request_id, to_run=to_run))
        if isinstance(reply, CommandAnswered):
            assert reply.rejection == ("structural_limit_exceeded" if before.is_open else "run_not_active")
            return
        assert isinstance(reply, UpdateStatus)
        known = [update_id for update_id, each in before.updates.items() if request_id and each.request_id == request_id]
        if known:
            assert reply.update_id == known[0] and not member.run.changed, "30"
            return
        assert member.run.new_types == ["UpdateAccepted"]
        again = member.run.tell(ReadUpdate(reply.update_id))
        assert again == reply and not member.run.changed

    @rule(
        at=PLACES,
        how=st.sampled_from(["signal", "signal", "signal", "update", "update", "again"]),
        to_run=st.sampled_from([False] * 4 + [True]),
    )
    def input(self, at: int, how: str, to_run: bool) -> None:
        member = self.pick(at, lambda member: member.is_open or at % 5 == 0)
        if member is None:
            return
        if how == "signal":
            self.signal(member, to_run)
        else:
            self.request += how == "update"
            self.update(member, f"request-{self.request}", to_run)

    @rule(at=PLACES, python=st.booleans())
    def query(self, at: int, python: bool) -> None:
        """28 and V6."""
        member = self.pick(at, lambda member: True)
        assert member is not None
        watch = member.watch
        worker = PYTHON if python else PLAIN
        watch.view.query(member.run.query(worker), worker.dialect, watch.events, watch.book, watch.ended_at)

    @rule(
        at=PLACES,
        how=st.sampled_from(["repair", "repair", "repair", "archive", "again", "cancel", "terminate"]),
        closed=st.booleans(),
    )
    def command(self, at: int, how: str, closed: bool) -> None:
        member = self.pick(at, lambda member: member.is_open != closed)
        if member is None or (how in ("cancel", "terminate") and at % 4 and not closed):
            return
        before, run = member.run.state, member.run
        if how == "again":
            rows = dict(run.rows)
            start = start_command(
                workflow_id=member.workflow_id, workflow_type=before.workflow_type, duplicate_policy="use-existing"
            )
            self.world.tell(member, NoteDuplicateStart(start))
            assert len(run.new) == 1 and run.rows == rows
            return
        told = {"repair": RepairRun(), "archive": ArchiveRun(), "cancel": CancelRun(reason="r"), "terminate": TerminateRun()}[
            how
        ]
        reply = self.world.tell(member, told)
        assert isinstance(reply, CommandAnswered)
        if (how == "archive") == before.is_open:
            assert reply.rejection == ("run_not_closed" if how == "archive" else "run_not_active")
        elif how == "repair":
            assert (
                run.new_types == ["RepairRequested"] and run.state.steps == before.steps and run.state.status == before.status
            )
        elif how == "archive":
            assert run.new_types == (["ArchiveRequested"] if before.archived else ["ArchiveRequested", "WorkflowArchived"])
        else:
            assert not member.is_open and run.new_types[0] == ("CancelRequested" if how == "cancel" else "TerminateRequested")

    # -- letters and time ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.mail)
    @rule(at=PLACES, stale=st.sampled_from([0, 0, 1, 2]))
    def letter(self, at: int, stale: int) -> None:
        there = self.world.arriving()
        self.world.deliver(there[at % len(there)], stale)

    def wake(self, member: Member) -> None:
        run = member.run
        due = run.wake_at is not None and run.wake_at <= run.now
        reply = self.world.tell(member, WakeUp())
        assert isinstance(reply, Done) == due, "14: due is enforced, and nothing else"
        assert run.wake_at is None or run.wake_at > run.now, "14: something due was left"

    @rule(at=PLACES, seconds=st.sampled_from([0, 1, 5, 20, 61, 301]), to_the_point=st.booleans())
    def time(self, at: int, seconds: int, to_the_point: bool) -> None:
        """Time passes; a run is woken, perhaps late."""
        times = [member.run.wake_at for member in self.members() if member.run.wake_at is not None]
        if to_the_point and times:
            self.world.clock.now = max(self.world.clock.now, min(times))
        elif seconds:
            self.world.clock.now += seconds * 1_000_000
        for member in self.members(
            lambda member: member.is_open and (at % 3 == 0 or (member.run.wake_at or 0) == min(times, default=0))
        ):
            self.wake(member)

    # -- judging -------------------------------------------------------------------------------------------------------

    @invariant()
    def holds(self) -> None:
        self.world.check()

    def teardown(self) -> None:
        """Whatever happened, patient workers and a patient post bring every run to its end."""
        for _ in range(600):
            for member in list(self.world.members.values()):
                self.go_on(member)
            self.world.deliver_all()
            self.world.check()
            times = [member.run.wake_at for member in self.members() if member.run.wake_at is not None]
            rows = [row.available_at for member in self.members() for row in member.run.rows.values()]
            later = [at for at in times + rows if at > self.world.clock.now]
            if not self.members():
                return
            if all(at > self.world.clock.now for at in times + rows):
                parked = self.members(lambda member: member.run.state.wait is not None)
                assert later or parked, "20: open runs that nothing can ever wake"
                for member in [] if later else parked:
                    self.signal(member)
                self.world.clock.now = min(later, default=self.world.clock.now)
        raise AssertionError(f"never ended: {[member.run.state for member in self.members()]}")

    def go_on(self, member: Member) -> None:
        if member.run.wake_at is not None and member.run.wake_at <= self.world.clock.now:
            self.wake(member)
        lease = member.watch.lease
        if lease is None and member.due("workflow"):
            self.claim(member, self.fleet[0])
            lease = member.watch.lease
        if lease is not None and lease.ends > self.world.clock.now:
            self.finish(member)
        while member.due("activity"):
            reply = self.world.tell(member, ClaimTask(member.due("activity")[0], PYTHON))
            if isinstance(reply, ActivityTaskGrant):
                self.world.tell(member, result_of(reply, "R"))

    def finish(self, member: Member) -> None:
        lease = member.watch.lease
        assert lease is not None
        if lease.update_id is not None:
            self.answer(member, [CompleteUpdate(lease.update_id)])
        elif self.unresolved(member):
            self.answer(member, list(member.batch))
        else:
            self.answer(member, [finish()])


Lives.TestCase.settings = search(150, stateful_step_count=50)
TestLives = Lives.TestCase
