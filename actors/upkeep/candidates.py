"""What a repair pass would look at: tasks nobody has, leases nobody holds, runs nothing can wake (contract operations 6.1).

Deadlines do this work as it comes due, so what is found here waits for workers, or is stuck.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import zip_longest

from actors.run.activity.common import expired_kind
from actors.run.state import RunState, decode
from actors.run.times import SECOND, Micros
from actors.run.views.waiting import waiting
from actors.run.workflow_task.lease import overdue
from store import ready_tasks
from store.commit.writes import ReadyTaskRow
from store.connections.pool import Database
from store.upkeep import overdue as store
from store.views import metrics

MOST = 1000  # looked at, of each kind
_PAGE = 200
_LATE = SECOND  # a deadline is not missed before the node had time for it

Scope = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A task (or, `missing`, a run without one) that a pass would repair. `since`: of its task or run, microseconds."""

    id: str
    run_id: str
    namespace: str
    queue: str
    compatibility: str | None
    since: int
    missing: bool = False
    task: ReadyTaskRow | None = None  # that waits to be claimed

    @property
    def scope(self) -> Scope:
        """Candidates are selected scope by scope."""
        return self.queue, self.compatibility


@dataclass(frozen=True, slots=True)
class Found:
    """Candidates, the oldest first, and the runs among them whose own deadline passed. `more`: not all could be looked at."""

    candidates: list[Candidate]
    deadline_expired: list[str]
    expired_activities: list[str]
    more: bool = False


async def look(
    db: Database,
    now: Micros,
    redispatch_after_seconds: int,
    run_ids: Sequence[str] | None = None,
    namespace: str | None = None,
) -> Found:
    """Look for candidates, of all namespaces; `run_ids`: among these runs only.

    Runs that nothing can wake are told by their state alone: they are looked for among `run_ids`, or else among the newest open
    runs of `namespace` (None: not looked for).
    """
    before = now - redispatch_after_seconds * SECOND
    if run_ids is None:
        found, more_runs = await store.runs(db, now - _LATE, MOST)
        tasks, more_tasks = await store.ready_tasks(db, before, MOST)
    else:
        found, more_runs, more_tasks = await store.states(db, run_ids), False, False
        named = [task_id for run in found for task_id in _task_ids(decode(run.state))]
        tasks = [task for task in await ready_tasks.get(db, named) if task.available_at < before]
    candidates = [_of_task(task) for task in tasks]
    deadlines: list[str] = []
    activities: list[str] = []
    stuck: dict[str, Candidate] = {}
    for run in found:
        state = decode(run.state)
        if not state.is_open:
            continue
        candidates += _leases(state, now)
        if overdue(state, now):
            deadlines.append(run.run_id)
        activities += expired_executions(state, now)
        stuck |= _stuck(state, now)
    if run_ids is None and namespace is not None:
        stuck |= await _stuck_in(db, namespace, now)
    candidates += stuck.values()
    candidates.sort(key=lambda candidate: (candidate.since, candidate.id))
    return Found(candidates, deadlines, activities, more_runs or more_tasks)


async def _stuck_in(db: Database, namespace: str, now: Micros) -> dict[str, Candidate]:
    """Runs that nothing can wake among the newest open ones of a namespace, by id."""
    found: dict[str, Candidate] = {}
    after: metrics.Place | None = None
    for _ in range(MOST // _PAGE):
        page = await metrics.open_runs(db, namespace, after, _PAGE)
        for run in page:
            found |= _stuck(decode(run.state), now)
        if len(page) < _PAGE:
            break
        after = page[-1].started_at, page[-1].run_id
    return found


def _stuck(state: RunState, now: Micros) -> dict[str, Candidate]:
    """The run as a candidate, by its id, when nothing can wake it."""
    if state.open_task is not None or waiting(state, now).liveness != "repair_needed":
        return {}
    run_id = state.run_id
    return {
        run_id: Candidate(
            run_id, run_id, state.namespace, state.task_queue, state.compatibility, state.started_at, missing=True
        )
    }


def expired_executions(state: RunState, now: Micros) -> list[str]:
    """Activity executions of a run of which a timeout passed, in the order of their steps."""
    due = [activity for activity in state.activities.values() if activity.status in ("ready", "running")]
    return [
        activity.execution_id
        for activity in sorted(due, key=lambda activity: activity.step)
        if state.is_open and expired_kind(activity, now) is not None
    ]


def _task_ids(state: RunState) -> list[str]:
    task = state.open_task
    return [*([] if task is None else [task.task_id]), *state.activities]


def _of_task(task: ReadyTaskRow) -> Candidate:
    return Candidate(task.task_id, task.task_id, task.namespace, task.queue, task.compatibility, task.available_at, task=task)


def _leases(state: RunState, now: Micros) -> Iterable[Candidate]:
    """Leases that ran out and were not taken back."""
    task = state.open_task
    if task is not None and task.status == "leased" and task.lease_expires_at <= now:
        yield Candidate(
            task.task_id, state.run_id, state.namespace, state.task_queue, state.compatibility, task.lease_expires_at
        )
    for task_id, activity in state.activities.items():
        if activity.status == "running" and activity.lease_expires_at <= now:
            yield Candidate(
                task_id, state.run_id, state.namespace, activity.queue, state.compatibility, activity.lease_expires_at
            )


def selected(candidates: Sequence[Candidate], limit: int) -> list[Candidate]:
    """Up to `limit` tasks and as many runs without one: one of each scope in turn, the oldest of it first."""
    chosen: list[Candidate] = []
    for missing in (False, True):
        scopes: dict[Scope, list[Candidate]] = {}
        for candidate in candidates:
            if candidate.missing == missing:
                scopes.setdefault(candidate.scope, []).append(candidate)
        turns = zip_longest(*scopes.values())
        chosen += [candidate for turn in turns for candidate in turn if candidate is not None][:limit]
    return chosen
