"""What the workers and callers of a world of runs do, and what the contract says must come of it (engine-semantics 3, 7)."""

from __future__ import annotations

from typing import Any

from hypothesis.stateful import RuleBasedStateMachine

from actors.run.commands import WakeUp
from actors.run.commands.control import ReadUpdate, SignalRun, UpdateRun
from actors.run.commands.steps import (
    GROUPED_STEPS,
    TERMINAL_STEPS,
    CompleteUpdate,
    FailUpdate,
    FailWorkflow,
    OpenConditionWait,
    WorkflowCommand,
)
from actors.run.commands.worker import ClaimTask, ReleaseClaim
from actors.run.ids import first_task_of
from actors.run.replies import (
    ActivityRecorded,
    CommandAnswered,
    Done,
    Refused,
    UpdateStatus,
    WorkflowTaskCompleted,
    WorkflowTaskGrant,
)
from actors.run.values import WorkerIdentity
from tests.core import batches
from tests.core.harness import PYTHON, completion, failure_of, result_of
from tests.core.step_book import RESOLUTIONS
from tests.core.world import Member, RunWorld
from tests.support.defaults import make_rules

RULES = make_rules(
    pending_activity_count=4,
    pending_timer_count=3,
    pending_child_count=3,
    pending_signal_count=6,
    pending_update_count=3,
    history_events=150,
    shards=4,
)


class Workers(RuleBasedStateMachine):
    """Runs, the workers that serve them, and those who send them inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.world = RunWorld(RULES)
        self.fleet: list[WorkerIdentity] = [PYTHON]
        self.request = 0

    def members(self, what: Any = lambda member: member.is_open) -> list[Member]:
        return [member for member in self.world.members.values() if what(member)]

    def pick(self, at: int, what: Any = lambda member: member.is_open) -> Member | None:
        """A run that something holds for, the newest ones first."""
        found = self.members(what)
        return found[-1 - at % len(found)] if found else None

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

    def work(self, member: Member, at: int, steps: list[WorkflowCommand], again: bool = False, meanwhile: str = "") -> None:
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
            done: WorkflowCommand = FailUpdate(update_id, "no") if again else CompleteUpdate(update_id, None)
            answer = [done]
        elif again and self.unresolved(member):
            answer = list(member.batch)
        elif again and member.run.state.wait is not None:
            wait = member.run.state.wait
            answer = [OpenConditionWait(wait.key, wait.fingerprint, wait.timeout_seconds)]
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

    def answer(self, member: Member, steps: list[WorkflowCommand]) -> None:
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
        elif normal and wait is not None and not (len(steps) == 1 and isinstance(steps[0], FailWorkflow)):
            cancelled = ["TimerCancelled"] if wait.timer_id is not None else []
            expected = ["ConditionWaitSatisfied", *cancelled, *expected]
        tail = [kind for kind in own[len(expected) :] if kind not in ("UpdateCompleted", "ParentClosePolicyApplied")]
        assert own[: len(expected)] == expected and not tail, f"2.5: {own} of {steps}"
        assert terminal or own == expected
        if expected == [] and not terminal:
            assert after.steps == before.steps, "26: a repetition leaves steps unchanged"
        self.created(member, reply, rows, before, after)
        group: list[WorkflowCommand] = [step for step in steps if isinstance(step, GROUPED_STEPS)]
        if group and not repeats:
            member.batch = group

    @staticmethod
    def created(member: Member, reply: WorkflowTaskCompleted, rows: set[str], before: Any, after: Any) -> None:
        """32: exactly the tasks that the completion made, the first ones of its children among them."""
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
            children = {first_task_of(child.run_id) for call, child in after.children.items() if call not in before.children}
            assert set(ids) == (set(run.rows) - rows) | timers | children, "32"

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

    def signal(self, member: Member, to_run: bool = False) -> None:
        before = member.run.state
        reply = self.world.tell(member, SignalRun(name="go", to_run=to_run))
        assert isinstance(reply, CommandAnswered)
        if not before.is_open:
            assert reply.rejection == "run_not_active"
        elif len(before.signals) >= RULES.limits.structural.pending_signal_count:
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

    def wake(self, member: Member) -> None:
        run = member.run
        due = run.wake_at is not None and run.wake_at <= run.now
        reply = self.world.tell(member, WakeUp())
        assert isinstance(reply, Done) == due, "14: due is enforced, and nothing else"
        assert run.wake_at is None or run.wake_at > run.now, "14: something due was left"
