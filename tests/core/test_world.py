"""Several runs under every interleaving of calls, messages, times and faults, judged by engine-semantics 14."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from actors.run.commands.control import ArchiveRun, CancelRun, ControlCommand, NoteDuplicateStart, RepairRun, TerminateRun
from actors.run.commands.steps import CompleteUpdate, ContinueAsNew, WorkflowCommand
from actors.run.commands.worker import ClaimTask, FailWorkflowTask, ReleaseClaim
from actors.run.replies import (
    ActivityTaskGrant,
    CommandAnswered,
    Refused,
    Started,
)
from actors.run.values import WorkerIdentity
from tests.core import batches
from tests.core.harness import OTHER, PLAIN, PYTHON, completion, finish, result_of, search, start_command
from tests.core.world import Member
from tests.core.world_workers import Workers

MANY = 8
PLACES = st.integers(0, 30)
RARELY = st.sampled_from([False, False, False, False, True])
STOPS: dict[str, ControlCommand] = {
    "repair": RepairRun(),
    "archive": ArchiveRun(),
    "cancel": CancelRun(reason="r"),
    "terminate": TerminateRun(),
}
COMMANDS = st.sampled_from(["repair", "repair", "repair", "archive", "again", "cancel", "terminate"])


class Lives(Workers):
    """A few runs, their workers, those who call them, and the post between them."""

    @initialize(
        fleet=st.sampled_from([[PYTHON, OTHER], [PYTHON, OTHER], [PLAIN], [PYTHON, PLAIN]]),
        run_timeout=st.sampled_from([None, None, 400]),
        first=batches.batches,
        second=batches.children,
    )
    def start(
        self, fleet: list[WorkerIdentity], run_timeout: int | None, first: list[WorkflowCommand], second: WorkflowCommand
    ) -> None:
        self.fleet = fleet
        member = self.world.begin("order-1", run_timeout_seconds=run_timeout)
        self.work(member, 0, first)
        self.work(self.world.begin("order-2"), 0, [second])

    # -- choosing ------------------------------------------------------------------------------------------------------

    # -- workflow workers ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.members(lambda member: member.due("workflow")))
    @rule(
        at=PLACES,
        worker=PLACES,
        steps=batches.batches,
        again=st.booleans(),
        meanwhile=st.sampled_from(["", "", "", "signal", "signal", "update", "time", "outcome", "lost"]),
    )
    def round_of_a_worker(self, at: int, worker: int, steps: list[WorkflowCommand], again: bool, meanwhile: str) -> None:
        member = self.pick(at, lambda member: member.due("workflow"))
        assert member is not None
        self.work(member, worker, steps, again, meanwhile)

    @precondition(lambda self: self.members(lambda member: member.due("workflow") and member.run.state.steps > 1))
    @rule(at=PLACES, worker=PLACES, steps=batches.endings)
    def end(self, at: int, worker: int, steps: list[WorkflowCommand]) -> None:
        member = self.pick(at, lambda member: member.due("workflow") and member.run.state.steps > 1)
        assert member is not None
        if len(self.world.members) < MANY or not isinstance(steps[0], ContinueAsNew):
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
    def answer_late(self, at: int, steps: list[WorkflowCommand]) -> None:
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

    @precondition(lambda self: self.members(lambda member: member.attempts))
    @rule(at=PLACES, which=PLACES, how=st.sampled_from(["ok", "fail"]))
    def late_outcome(self, at: int, which: int, how: str) -> None:
        member = self.pick(at, lambda member: member.attempts)
        assert member is not None
        self.outcome(member, which, how)

    # -- inputs --------------------------------------------------------------------------------------------------------

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
            reply = self.world.tell(member, NoteDuplicateStart(start))
            assert isinstance(reply, Refused if before.superseded else Started)  # the run that goes on is asked instead
            assert len(run.new) == (1 if before.is_open else 0) and run.rows == rows
            return
        reply = self.world.tell(member, STOPS[how])
        if how == "archive" and before.superseded:
            assert isinstance(reply, Refused) and not run.new
            return
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

    # -- messages and time ----------------------------------------------------------------------------------------------

    @precondition(lambda self: self.world.under_way)
    @rule(at=PLACES, stale=st.sampled_from([0, 0, 1, 2]))
    def message(self, at: int, stale: int) -> None:
        there = self.world.arriving()
        self.world.deliver(there[at % len(there)], stale)

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
