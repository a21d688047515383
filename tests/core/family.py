"""What examples with commands, waits and several runs share: the key sets of events, and a post between runs."""

from __future__ import annotations

from typing import Any

from actors.run.commands import RunCommand
from actors.run.commands.messages import ParentClosed, ScheduleNews, StartChildRun
from actors.run.commands.steps import WorkflowCommand
from actors.run.replies import CommandAnswered, Refused
from tests.core.harness import Event, RunModel, child

SECOND = 1_000_000

# Shorthands of engine-semantics 2.4.
CMD = {"workflow_command_id", "workflow_instance_id", "workflow_run_id"}
WAIT = {"condition_wait_id", "condition_key", "condition_definition_fingerprint", "sequence"}
WAIT_TIMER = WAIT | {"timer_id", "timer_kind", "delay_seconds", "fire_at"}
CHILD = {
    "sequence",
    "workflow_link_id",
    "child_call_id",
    "child_workflow_instance_id",
    "child_workflow_run_id",
    "child_workflow_class",
    "child_workflow_type",
    "child_run_number",
}


def keys(event: Event) -> set[str]:
    """The keys of an event's payload."""
    return set(event["payload"])


def of_type(run: RunModel, event_type: str) -> list[dict[str, Any]]:
    """The payloads of all events of a type."""
    return [event["payload"] for event in run.events() if event["event_type"] == event_type]


def types(run: RunModel) -> list[str]:
    """The types of the whole history."""
    return [event["event_type"] for event in run.events()]


def rejected(run: RunModel, command: RunCommand, rejection: str, outcome: str | None) -> None:
    """The command is rejected: it takes a number, and nothing else is different."""
    before = run.state
    answer = run.expect(CommandAnswered, command)
    assert (answer.rejection, answer.outcome) == (rejection, outcome)
    assert answer.command_sequence == before.command_sequence + 1
    assert answer.command_id and not run.new and not run.messages and run.successor is None
    after = run.state
    before.command_sequence, before.id_clock = after.command_sequence, after.id_clock
    assert after == before


def refused(run: RunModel, command: RunCommand, reason: str) -> dict[str, Any]:
    """The command is refused and nothing at all changes; returns the details."""
    answer = run.expect(Refused, command)
    assert answer.reason == reason and not run.changed
    return answer.detail


class Family:
    """A root run, its children and theirs, and every run that followed one of them, by workflow id."""

    def __init__(self, root: RunModel) -> None:
        self.root = root
        self.chains: dict[str, list[RunModel]] = {root.state.workflow_id: [root]}

    def deliver(self, run: RunModel) -> None:
        """Deliver what the last command of `run` sent, and all that follows from it."""
        if run.successor is not None:
            self.chains[run.state.workflow_id].append(run.successor)
        for message in run.messages:
            if isinstance(message.command, StartChildRun):
                child = RunModel.child(message.command, run)
                assert child.state.run_id == message.run_id
                self.chains[message.workflow_id] = [child]
                continue
            assert not isinstance(message.command, ScheduleNews)
            chain = self.chains[message.workflow_id]
            at = next(at for at, each in enumerate(chain) if each.state.run_id == message.run_id)
            answer = chain[at].tell(message.command)
            while isinstance(message.command, ParentClosed) and isinstance(answer, Refused) and at + 1 < len(chain):
                at += 1
                answer = chain[at].tell(message.command)
            self.deliver(chain[at])

    def newest(self, workflow_id: str) -> RunModel:
        """The current run of an instance."""
        return self.chains[workflow_id][-1]

    def children_of(self, run: RunModel) -> list[RunModel]:
        """The current runs of the children of `run`, in step order."""
        return [self.newest(payload["child_workflow_instance_id"]) for payload in of_type(run, "ChildWorkflowScheduled")]


def parent_of(*steps: WorkflowCommand, **start: Any) -> Family:
    """A family whose root did these steps first: a child, unless told otherwise."""
    family = Family(RunModel(**start))
    end(family, family.root, *(steps or (child(),)))
    return family


def act(family: Family, run: RunModel, command: RunCommand) -> None:
    """Tell a run something and deliver what follows."""
    run.tell(command)
    family.deliver(run)


def end(family: Family, run: RunModel, *steps: WorkflowCommand) -> RunModel:
    """Complete the ready task of a run and deliver what follows; the run that is current then."""
    run.batch(*steps)
    family.deliver(run)
    return family.newest(run.state.workflow_id)
