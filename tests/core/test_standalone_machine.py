"""Host runs under any sequence of what can happen to them: what must hold after every command (operations 10.2)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from actors.run import ids
from actors.run.commands.control import (
    ArchiveRun,
    CancelRun,
    NoteDuplicateStart,
    RepairRun,
    SignalOnce,
    SignalRun,
    TerminateRun,
    UpdateRun,
)
from actors.run.commands.worker import ClaimTask, HeartbeatActivity, ReleaseClaim
from actors.run.replies import ActivityTaskGrant, Refused, Started
from actors.run.state import View
from actors.run.values import RetryPolicy
from tests.core.harness import (
    OTHER,
    PYTHON,
    START,
    RunModel,
    activity,
    failure_of,
    result_of,
    search,
    standalone_command,
    start_command,
)
from tests.core.invariants import AFTER_THE_END, BY_FORCE, ENDINGS, STATUSES, TERMINAL
from tests.core.step_book import micros

OUTCOMES = {"ActivityCompleted", "ActivityFailed", "ActivityTimedOut", "ActivityCancelled"}
OUTCOME_OF = {"completed": "ActivityCompleted", "failed": "ActivityFailed", "timed_out": "ActivityTimedOut"}

seconds = st.one_of(st.none(), st.integers(1, 30))
policies = st.one_of(
    st.none(), st.builds(RetryPolicy, max_attempts=st.integers(1, 4), backoff_seconds=st.lists(st.integers(0, 5), max_size=2))
)
definitions = st.builds(
    activity,
    retry_policy=policies,
    start_to_close_timeout=seconds,
    schedule_to_start_timeout=seconds,
    schedule_to_close_timeout=seconds,
    heartbeat_timeout=seconds,
)
operations = st.sampled_from(
    [
        *["claim"] * 6,
        *["complete", "fail", "fail", "beat", "release", "late"],
        *["wake", "wake", "tick", "tick", "leap"],
        *["cancel", "terminate", "repair", "archive", "signal", "once", "update", "start", "start", "workflow"],
    ]
)


class World:
    """The runs of one id, the grants that workers have, and the checks."""

    def __init__(self, definition: Any) -> None:
        self.run = RunModel.host(definition)
        self.chain = 1
        self.grants: list[ActivityTaskGrant] = []
        self.check()

    def do(self, operation: str, pick: int, definition: Any) -> None:
        """One thing that happens; `pick` chooses the grant it is about, perhaps an old one."""
        run = self.run
        if operation == "claim":
            for task_id in list(run.rows):
                grant = run.tell(ClaimTask(task_id, (PYTHON, OTHER)[pick % 2]))
                if isinstance(grant, ActivityTaskGrant):
                    self.grants.append(grant)
        elif operation in ("complete", "fail", "beat", "release", "late"):
            self._report(operation, pick)
        elif operation in ("tick", "leap"):
            run.pass_time(1 if operation == "tick" else 40)
        elif operation == "wake":
            run.wake()
        elif operation == "start":
            self._start(definition)
        elif operation == "workflow":
            assert isinstance(run.tell(NoteDuplicateStart(start_command(workflow_id="scan-4"))), Refused)
        else:
            commands: dict[str, Any] = {
                "cancel": CancelRun(),
                "terminate": TerminateRun(reason="r"),
                "repair": RepairRun(),
                "archive": ArchiveRun(),
                "signal": SignalRun(name="s"),
                "once": SignalOnce(name="s", once=" bridge:1"),
                "update": UpdateRun(name="u", request_id="r"),
            }
            run.tell(commands[operation])
        self.check()

    def _report(self, operation: str, pick: int) -> None:
        if not self.grants:
            return
        grant = self.grants[0 if operation == "late" else pick % len(self.grants)]
        fence = (grant.task_id, grant.activity_attempt_id, grant.lease_owner)
        if operation == "release":
            self.run.tell(ReleaseClaim(grant.task_id, grant.lease_owner, grant.attempt_number))
        elif operation == "beat":
            self.run.tell(HeartbeatActivity(*fence))
        elif operation == "fail":
            self.run.tell(failure_of(grant, non_retryable=pick % 5 == 0))
        else:
            self.run.tell(result_of(grant))

    def _start(self, definition: Any) -> None:
        run, was_open = self.run, self.run.state.is_open
        run_id = ids.new_run_id(max(run.now, START) // 1000, ids.RunKey(f"0a{self.chain:013d}"))
        answer = run.expect(Started, NoteDuplicateStart(standalone_command(definition, run_id=run_id)))
        assert (answer.outcome == "started_new") == (run.successor is not None) == (not was_open)
        if run.successor is not None:
            self.chain += 1
            assert run.state.superseded and run.successor.state.run_number == self.chain
            self.run = run.successor
            self.grants = []

    def check(self) -> None:
        """What holds of a host run at any time."""
        run, state = self.run, self.run.state
        host = state.standalone
        assert host is not None
        assert state.task is not None and state.task.status == "never" and not state.task.task_id
        assert state.view == View() and not state.signals and not state.updates and not state.timers
        events = run.events()
        kinds = [event["event_type"] for event in events]
        assert kinds[:3] == ["StartAccepted", "WorkflowStarted", "ActivityScheduled"]
        assert all(a["id"] < b["id"] for a, b in pairwise(events))
        assert all(micros(a["recorded_at"]) <= micros(b["recorded_at"]) for a, b in pairwise(events))
        outcomes = [kind for kind in kinds if kind in OUTCOMES]
        endings = [kind for kind in kinds if kind in TERMINAL]
        started = kinds.count("ActivityStarted")
        assert state.steps == 1
        if state.is_open:
            assert state.status == "running" and not outcomes and not endings and host.status is None
            [(task_id, live)] = state.activities.items()
            rows = [(row.task_id, row.kind) for row in run.rows.values()]
            assert rows == ([(task_id, "activity")] if live.status == "ready" else [])
            assert run.wake_at == (None if live.deadline == 1 << 62 else live.deadline)
            assert len(host.attempts) + (live.attempt_id is not None) == started
            return
        assert run.wake_at is None and not run.rows
        reason = str(state.closed_reason)
        assert endings == ENDINGS[reason] and state.status == STATUSES.get(reason, reason)
        assert outcomes == [OUTCOME_OF.get(reason, "ActivityCancelled")]
        assert (host.status == "completed") == (reason == "completed")
        assert (host.status == "cancelled") == (reason in BY_FORCE and reason != "timed_out")
        last = len(kinds) - 1 - kinds[::-1].index(endings[-1])
        assert set(kinds[last + 1 :]) <= AFTER_THE_END
        assert len(host.attempts) == started
        numbers = [attempt.number for attempt in host.attempts]
        assert numbers == sorted(set(numbers)) and (not numbers or numbers[-1] <= host.attempt_count)
        good = [attempt.status == "completed" for attempt in host.attempts]
        assert sum(good) == (reason == "completed") and not any(good[:-1])


@search(250)
@given(definitions, st.lists(st.tuples(operations, st.integers(0, 9), definitions), max_size=40))
def test_host_runs(definition: Any, steps: list[tuple[str, int, Any]]) -> None:
    world = World(definition)
    for operation, pick, other in steps:
        world.do(operation, pick, other)
