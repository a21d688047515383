"""Several runs in one world: a clock, a post that delivers messages between them, and a watch over each of them.

A message lies in the mailbox from the transition that sent it until the one that applies it. Messages of one sender arrive in
order, however late; messages of different senders in any order.
"""

from __future__ import annotations

from typing import Any

from actors.run import ids
from actors.run.commands import RunCommand
from actors.run.commands.control import UpdateRun
from actors.run.commands.messages import ChildClosed, ChildRestarted, MessageCommand, ParentClosed, ScheduleNews, StartChildRun
from actors.run.commands.steps import WorkflowCommand
from actors.run.dialect import Dialect
from actors.run.ids import RunId
from actors.run.replies import (
    TOO_EARLY,
    ActivityTaskGrant,
    CommandAnswered,
    Refused,
    RunReply,
    UpdateStatus,
    WorkflowTaskCompleted,
    WorkflowTaskGrant,
)
from actors.run.rules import Rules
from actors.run.transition import RunMessage
from tests.core.harness import START, Clock, Event, RunModel
from tests.core.invariants import HistoryChecker
from tests.support.defaults import RULES


class Member:
    """A run of the world, what is known of it, and what its workers hold."""

    def __init__(self, run: RunModel) -> None:
        self.run = run
        self.watch = HistoryChecker(run)
        self.watch.read()
        self.workflow_id = run.state.workflow_id
        self.run_id = run.state.run_id
        self.tasks: list[WorkflowTaskGrant] = []
        self.attempts: list[ActivityTaskGrant] = []
        self.batch: list[WorkflowCommand] = []
        # Open children with a policy when this run closed, in step order.
        self.bound: list[tuple[str, str]] = []

    @property
    def is_open(self) -> bool:
        return self.run.state.is_open

    def due(self, kind: str) -> list[str]:
        """Tasks of a kind that can be claimed right now, oldest first."""
        rows = self.run.rows.values()
        return sorted(row.task_id for row in rows if row.kind == kind and row.available_at <= self.run.now)


class RunWorld:
    """All runs by their id, the chains of runs by workflow id, the post."""

    def __init__(self, rules: Rules = RULES, dialect: Dialect | None = None) -> None:
        self.rules = rules
        self.dialect = dialect
        self.clock = Clock()
        self.members: dict[str, Member] = {}
        self.chains: dict[str, list[Member]] = {}
        self.under_way: list[tuple[str, RunMessage]] = []
        self.applied: set[str] = set()
        self.run_scoped: set[str] = set()

    # -- runs ----------------------------------------------------------------------------------------------------------

    def begin(self, workflow_id: str, **start: Any) -> Member:
        """Start the first run of a workflow id."""
        run_id = ids.new_run_id(START // 1000, ids.derived_run_key(7, workflow_id))
        return self._join(RunModel(self.rules, self.dialect, self.clock, workflow_id=workflow_id, run_id=run_id, **start))

    def _join(self, run: RunModel) -> Member:
        member = Member(run)
        assert member.run_id not in self.members
        self.members[member.run_id] = member
        self.chains.setdefault(member.workflow_id, []).append(member)
        return member

    def tell(self, member: Member, command: RunCommand) -> RunReply:
        """Have a run decide a command; judge what can be judged of any command."""
        run, watch = member.run, member.watch
        before = run.state
        children = [(child.run_id, child.policy) for child in sorted(before.children.values(), key=lambda each: each.step)]
        reply = run.tell(command)
        watch.read()
        after = run.state
        if watch.lease is not None and (after.task is None or after.task.status != "leased"):
            watch.lease_ended(completed=isinstance(reply, WorkflowTaskCompleted))
        self._numbered(before.command_sequence, after.command_sequence, command, reply, run)
        if before.is_open and not after.is_open:
            self._closed(member, children)
        for message in run.messages:
            assert message.message_id not in self.applied
            self.under_way.append((member.run_id, message))
        if run.successor is not None:
            self._continued(member, self._join(run.successor))
        return reply

    @staticmethod
    def _numbered(before: int, after: int, command: RunCommand, reply: RunReply, run: RunModel) -> None:
        """18: the numbers of commands have no gaps."""
        if isinstance(reply, CommandAnswered):
            assert reply.command_sequence == after == before + 1, "18"
            told = ["UpdateRejected"] if isinstance(command, UpdateRun) and run.state.is_open else []
            assert reply.rejection is None or run.new_types == told, "16: what a rejected command leaves"
        elif isinstance(reply, UpdateStatus) and run.changed:
            assert reply.command_sequence == after == before + 1, "18"
        elif not isinstance(command, ParentClosed) and type(command).__name__ != "NoteDuplicateStart":
            assert after == before, "18"

    # -- ends ----------------------------------------------------------------------------------------------------------

    def _closed(self, member: Member, children: list[tuple[RunId, str]]) -> None:
        """2.5, 8.5: what happens to the children; those the closing transition itself began are in its events."""
        run = member.run
        types = run.new_types
        if run.state.closed_reason == "continued":
            assert "ParentClosePolicyApplied" not in types
            return
        begun = [event["payload"] for event in run.new if event["event_type"] == "ChildWorkflowScheduled"]
        children += [(each["child_workflow_run_id"], each["parent_close_policy"]) for each in begun]
        # A wake-up may resolve nothing of a child, so they are all still there.
        applied = [event["payload"] for event in run.new if event["event_type"] == "ParentClosePolicyApplied"]
        wanted = [(run_id, policy) for run_id, policy in children if policy != "abandon"]
        assert [(each["child_run_id"], each["policy"]) for each in applied] == wanted, "8.5"
        reason = run.state.closed_reason
        for each in applied:
            assert each["reason"] == f"Parent workflow closed ({reason}); parent-close policy: {each['policy']}."
        member.bound = [(each["child_instance_id"], each["policy"]) for each in applied]

    def _continued(self, old: Member, new: Member) -> None:
        """21: one chain; and what the new run takes over."""
        before, after = old.run.state, new.run.state
        assert not before.is_open and after.is_open and after.run_number == before.run_number + 1, "21"
        for same in (
            "workflow_id",
            "namespace",
            "memo_bytes",
            "search_attributes",
            "business_key",
            "priority",
            "execution_deadline_at",
        ):
            assert getattr(before, same) == getattr(after, same), f"8.4: {same}"
        started = new.watch.events[0]
        assert started["event_type"] == "WorkflowStarted", "3"
        begun = next(event for event in old.watch.events if event["event_type"] == "WorkflowStarted")
        assert started["payload"]["memo"] == begun["payload"]["memo"], "8.4: memo"
        if before.closed_reason == "continued":
            end = old.watch.endings[0]["payload"]
            assert end["continued_to_run_id"] == new.run_id and end["continued_to_run_number"] == after.run_number, "21"
            assert started["payload"]["continued_from_run_id"] == old.run_id, "21"
            left = [event for event in old.watch.inputs.unapplied if event not in new.watch.inputs.signals]
            assert set(left) <= self.run_scoped, "16: a signal was lost"
            assert [each for each in old.watch.inputs.unapplied if each not in left] == new.watch.inputs.unapplied, "31"
            assert old.watch.inputs.open_updates() == list(new.watch.inputs.updates), "17"
        else:
            assert before.origin is not None and before.status == "failed", "8.3"
            assert started["payload"]["retry_of_child_workflow_run_id"] == old.run_id

    # -- the post ------------------------------------------------------------------------------------------------------

    def arriving(self) -> list[RunMessage]:
        """The next message of each sender."""
        first: dict[str, RunMessage] = {}
        for sender, message in self.under_way:
            first.setdefault(sender, message)
        return list(first.values())

    def deliver(self, message: RunMessage, stale: int = 0) -> None:
        """Apply a message. `stale`: how many runs behind the newest its address is, if it may go to any run of a chain."""
        command: MessageCommand = message.command
        assert message.message_id not in self.applied
        if isinstance(command, StartChildRun):
            parent = self.members[command.origin.run_id]
            child = self._join(RunModel.child(command, parent.run))
            assert child.run_id == message.run_id and child.run.messages == []
            assert list(child.run.rows) == [ids.first_task_of(child.run_id)], "32: the task its parent named"
        elif isinstance(command, ParentClosed):
            # A closed run refuses: perhaps the child went on as another one while the message was under way.
            for child in self.chains[message.workflow_id][-1 - stale :]:
                open_ = child.is_open
                refused = isinstance(self.tell(child, command), Refused)
                assert refused != open_ and child.run.changed == open_
                if not refused:
                    break
        else:
            receiver = self.members[message.run_id]
            assert not isinstance(command, ScheduleNews)
            reply = self.tell(receiver, command)
            if reply == Refused(TOO_EARLY):
                assert not receiver.run.changed and isinstance(command, ChildRestarted | ChildClosed)
                news = [other.command for _, other in self.under_way if isinstance(other.command, ChildRestarted)]
                before = [one for one in news if one.child_call_id == command.child_call_id]
                assert any(one.run_number <= command.run_number and one is not command for one in before), "nothing to wait for"
                return
        self.applied.add(message.message_id)
        self.under_way = [(sender, each) for sender, each in self.under_way if each.message_id != message.message_id]

    def deliver_all(self) -> None:
        """Until nothing is under way."""
        while self.under_way:
            self.deliver(self.arriving()[0])

    # -- what must hold ------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """The invariants of each run and those between runs."""
        for member in self.members.values():
            member.watch.check()
        for chain in self.chains.values():
            assert [member.run.state.run_number for member in chain] == list(range(1, len(chain) + 1)), "21"
            assert not any(member.is_open for member in chain[:-1]), "21"
        if not self.under_way:
            for member in self.members.values():
                self._families(member)

    def _families(self, parent: Member) -> None:
        """22 and 23, once everything sent has arrived."""
        for step in parent.watch.steps.values():
            if step.kind != "ChildWorkflowScheduled":
                continue
            assert step.started, "22"
            last = self.chains[step.payload["child_workflow_instance_id"]][-1]
            if parent.is_open:
                assert (step.resolved is None) == last.is_open, "22: the parent and the child disagree"
            if step.resolved is not None:
                end = next(event for event in parent.watch.events if event["id"] == step.resolution_id)
                self._told(end, last)
        for workflow_id, policy in parent.bound:
            last = self.chains[workflow_id][-1]
            assert not last.is_open, f"23: a child outlived its parent ({policy})"

    @staticmethod
    def _told(end: Event, last: Member) -> None:
        state, payload = last.run.state, end["payload"]
        assert payload["child_workflow_run_id"] == last.run_id, "22: the end of another run"
        assert payload["closed_reason"] == state.closed_reason and payload["child_status"] == state.status, "22"
        suffix = {"completed": "Completed", "cancelled": "Cancelled", "terminated": "Terminated"}.get(state.status, "Failed")
        assert end["event_type"] == "ChildRun" + suffix, "22"
