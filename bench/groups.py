"""Workflows that yield many commands at once: what the workers of the measured generation send and must be shown.

While a member of the list is unresolved, the SDK sends the whole list again at each workflow task (worker-protocol 6.3); the
results it is shown stand in the order of the list, and what it was shown once keeps its place (engine-semantics 2.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.board import Board, Flight, WrongAnswerError
from bench.payloads import decode, decode_stored, encode
from bench.programs import Program

START = ["StartAccepted", "WorkflowStarted"]


class Group:
    """What a workflow of this kind has sent and seen so far."""

    def __init__(self, commands: list[dict[str, Any]]) -> None:
        self.commands = commands
        self.shown: list[str] = []  # ids of the events in the newest snapshot
        self.sent = 0
        self.members_seen: set[int] = set()


class GroupProgram(Program):
    """A workflow that yields one list of `size` members, waits for all of them and returns their results as a list.

    Member i is given the workflow's id and i, and returns i.
    """

    reads_all_pages = True
    one_at_a_time = False
    steps: tuple[str, ...]
    """The events of each step in history, in their order; the last one carries the result."""
    tasks_created: int
    """How many task ids the answer to the list names per member."""

    def __init__(self, size: int) -> None:
        self.size = size

    def make_input(self, workflow_id: str) -> list[Any]:
        """The size of the group."""
        return [self.size]

    def command(self, workflow_id: str, index: int, task_queue: str) -> dict[str, Any]:
        """The command of member `index`."""
        raise NotImplementedError

    def member(self, flight: Flight, arguments: dict[str, str]) -> int:
        """Which member a task was made for; `WrongAnswerError` if that one has come before."""
        workflow_id, index = decode(arguments["blob"])
        group = flight.state
        if workflow_id != flight.workflow_id or not 0 <= index < self.size:
            raise WrongAnswerError(f"a member with the arguments {workflow_id}, {index}")
        if index in group.members_seen:
            raise WrongAnswerError(f"member {index} came twice")
        group.members_seen.add(index)
        found: int = index
        return found

    def decide(self, flight: Flight, task: dict[str, Any]) -> list[dict[str, Any]]:
        """The whole list at each task until the view shows all of its results, in step order."""
        events = task["history_events"]
        if flight.state is None:
            shown = [event["event_type"] for event in events]
            if shown != START:
                raise WrongAnswerError(f"the first workflow task shows {shown}")
            queue = task["task_queue"]
            flight.state = Group([self.command(flight.workflow_id, index, queue) for index in range(self.size)])
        group: Group = flight.state
        self._check_snapshot(group, task)
        results = [event["payload"] for event in events if event["event_type"] == self.steps[-1]]
        if [decode(payload["result"]) for payload in results] != list(range(len(results))):
            raise WrongAnswerError("the view does not show the results in the order of the steps")
        if len(results) < self.size:
            return group.commands
        return [{"type": "complete_workflow", "result": {"codec": "avro", "blob": encode(list(range(self.size)))}}]

    def _check_snapshot(self, group: Group, task: dict[str, Any]) -> None:
        """Gapless, as long as announced, and nothing shown before has moved."""
        events = task["history_events"]
        if [event["sequence"] for event in events] != list(range(1, task["total_history_events"] + 1)):
            raise WrongAnswerError(f"the snapshot has gaps, or not the {task['total_history_events']} events announced")
        ids = [event["id"] for event in events]
        if ids[: len(group.shown)] != group.shown:
            raise WrongAnswerError("the view does not extend what was shown before")
        group.shown = ids

    def answered(
        self, flight: Flight, task: dict[str, Any], commands: list[dict[str, Any]], answer: dict[str, Any], board: Board
    ) -> None:
        """The list creates its members once; sent again it creates none, at most the run's own next task."""
        group: Group = flight.state
        if commands is not group.commands or task["workflow_id"] != flight.workflow_id:
            return
        created = len(answer["created_task_ids"])
        if (created > 1) if group.sent else (created < self.size * self.tasks_created):
            raise WrongAnswerError(f"the list created {created} tasks after having been sent {group.sent} times before")
        group.sent += 1

    def verify(self, flight: Flight, events: Sequence[dict[str, Any]]) -> None:
        """Every step has each of its events once, in their order, with the right result, between the run's start and end."""
        kinds = [event["event_type"] for event in events]
        if kinds[:2] != START or kinds[-1] != "WorkflowCompleted":
            raise WrongAnswerError(f"wrong history: it begins {kinds[:2]} and ends {kinds[-1]}")
        if [event["sequence"] for event in events] != list(range(1, len(events) + 1)):
            raise WrongAnswerError("wrong history: the sequences have gaps")
        by_step: dict[int, list[str]] = {}
        for event in events[2:-1]:
            step = event["payload"]["sequence"]
            by_step.setdefault(step, []).append(event["event_type"])
            if event["event_type"] == self.steps[-1] and decode(event["payload"]["result"]) != step - min(by_step):
                raise WrongAnswerError(f"wrong history: step {step} has another step's result")
        if len(by_step) != self.size or any(tuple(found) != self.steps for found in by_step.values()):
            raise WrongAnswerError(f"wrong history: {len(by_step)} steps, not each of them {self.steps}")
        if list(by_step) != sorted(by_step):
            raise WrongAnswerError("wrong history: the steps were not opened in their order")
        if decode_stored(events[-1]["payload"]["output"]) != list(range(self.size)):
            raise WrongAnswerError("the result is not the list of the members' results")
