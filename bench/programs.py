"""What the load generator's workers run: a workflow and its activity deciding over history, and the check of the outcome."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.board import Board, Flight, WrongAnswerError
from bench.payloads import decode, decode_stored, encode


class Program:
    """A workflow type with at most one activity type, as a worker of the measured generation would run them."""

    workflow_type: str
    activity_type = "bench.none"
    reads_all_pages = False
    """Whether a worker fetches the whole history of each task."""
    long_history = False
    """Whether the run's history may be too long for one answer of the control plane."""
    one_at_a_time = True
    """Whether one request makes at most one task ready, so that the time from it to the task's arrival means something."""

    standalone = False
    """Whether it is an activity that runs by itself, without a workflow."""

    @property
    def workflow_types(self) -> tuple[str, ...]:
        """Every workflow type the workers serve."""
        return (self.workflow_type,)

    def flight_id(self, task: dict[str, Any]) -> str:
        """The id of the workflow, started by the load, that a workflow task belongs to."""
        found: str = task["workflow_id"]
        return found

    def replay_seconds(self, task: dict[str, Any], commands: list[dict[str, Any]]) -> float:
        """How long the worker takes to replay; it works on one task at a time per connection."""
        return 0.0

    def answered(
        self, flight: Flight, task: dict[str, Any], commands: list[dict[str, Any]], answer: dict[str, Any], board: Board
    ) -> None:
        """The completion of a workflow task was accepted; `WrongAnswerError` if the answer says what it must not."""

    def make_input(self, workflow_id: str) -> Any:
        """The start input of a workflow: a list of positional arguments, different for each workflow."""
        raise NotImplementedError

    def decide(self, flight: Flight, task: dict[str, Any]) -> list[dict[str, Any]]:
        """The commands that complete a workflow task; `WrongAnswerError` if the task shows what it must not."""
        raise NotImplementedError

    def perform(self, flight: Flight, task: dict[str, Any]) -> dict[str, str]:
        """The result envelope of an activity task; `WrongAnswerError` if this task must not have come."""
        raise WrongAnswerError("an activity task of a workflow without activities")

    def verify(self, flight: Flight, events: Sequence[dict[str, Any]]) -> None:
        """Check a completed run's history, control-plane form; `WrongAnswerError` says what is wrong."""
        raise NotImplementedError


class EchoProgram(Program):
    """The standard workflow: one external activity gets the workflow's input and gives it back as the result."""

    workflow_type = "bench.standard"
    activity_type = "bench.echo"
    history = (
        "StartAccepted",
        "WorkflowStarted",
        "ActivityScheduled",
        "ActivityStarted",
        "ActivityCompleted",
        "WorkflowCompleted",
    )

    def __init__(self, payload_bytes: int) -> None:
        self._payload_bytes = payload_bytes

    def make_input(self, workflow_id: str) -> list[str]:
        """One text of `payload_bytes` characters that begins with the workflow id."""
        return [f"{workflow_id}:".ljust(self._payload_bytes, "x")[: self._payload_bytes]]

    def decide(self, flight: Flight, task: dict[str, Any]) -> list[dict[str, Any]]:
        """First task: schedule the activity with the run's input. Second: complete with the activity's result."""
        events = task["history_events"]
        if task["next_history_page_token"] is not None:
            raise WrongAnswerError("a history of few events came in pages")
        shown = [event["event_type"] for event in events]
        if flight.tasks_seen == 1:
            if shown != ["StartAccepted", "WorkflowStarted"]:
                raise WrongAnswerError(f"the first workflow task shows {shown}")
            return [
                {
                    "type": "schedule_activity",
                    "activity_type": self.activity_type,
                    "arguments": task["arguments"],
                    "queue": task["task_queue"],
                    "start_to_close_timeout": 60,
                }
            ]
        if flight.tasks_seen != 2 or shown != list(self.history[:5]):
            raise WrongAnswerError(f"workflow task {flight.tasks_seen} shows {shown}")
        outcome = events[4]["payload"]
        return [{"type": "complete_workflow", "result": {"codec": outcome["payload_codec"], "blob": outcome["result"]}}]

    def perform(self, flight: Flight, task: dict[str, Any]) -> dict[str, str]:
        """Give the only argument back. Nothing fails here, so a second delivery is the server's mistake."""
        if flight.activities_seen != 1 or task["attempt_number"] != 1:
            raise WrongAnswerError(f"the activity came {flight.activities_seen} times, now as attempt {task['attempt_number']}")
        (value,) = decode(task["arguments"]["blob"])
        return {"codec": "avro", "blob": encode(value)}

    def verify(self, flight: Flight, events: Sequence[dict[str, Any]]) -> None:
        """Exactly the six events, sequences 1 to 6, and the input's text as the output."""
        found = [(event["sequence"], event["event_type"]) for event in events]
        if found != list(enumerate(self.history, start=1)):
            raise WrongAnswerError(f"wrong history: {found}")
        if decode_stored(events[5]["payload"]["output"]) != flight.input[0]:
            raise WrongAnswerError("the result is not what the activity was given")


class AloneProgram(EchoProgram):
    """The activity of the standard workflow by itself; its host run has the same history."""

    workflow_type = "dw.standalone_activity"
    standalone = True

    @property
    def workflow_types(self) -> tuple[str, ...]:
        """None: the workers serve activities alone."""
        return ()
