"""Passes of repair and of activity timeouts by hand: runs are told to look what is due (contract operations 6.1, 6.2)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from actors.engine import Engine
from actors.errors import Unavailable
from actors.run import ids
from actors.run.activity.common import expired_kind
from actors.run.commands import WakeUp
from actors.run.commands.control import RepairRun
from actors.run.next_task import ours
from actors.run.replies import Refused
from actors.run.state import Activity, RunState, decode
from actors.run.times import Micros
from actors.run.transition import ReadyTask
from actors.upkeep.candidates import Candidate, Found
from store import runs
from store.connections.pool import Database
from store.errors import StoreError

_AT_ONCE = 16


@dataclass(slots=True)
class Repaired:
    """What a pass did. Failures: (id, message)."""

    existing: int = 0
    missing: int = 0
    dispatched: int = 0
    task_failures: list[tuple[str, str]] = field(default_factory=list)
    run_failures: list[tuple[str, str]] = field(default_factory=list)


async def repair(engine: Engine, candidates: Sequence[Candidate]) -> Repaired:
    """Take back leases that ran out, bring waiting tasks to their queue again, give runs without a task their next one."""
    done = Repaired()
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(candidate: Candidate) -> None:
        async with gate:
            try:
                await _repair(engine, candidate, done)
            except (Unavailable, StoreError) as error:
                failures = done.run_failures if candidate.missing else done.task_failures
                failures.append((candidate.id, str(error) or "The run cannot be reached just now."))

    await asyncio.gather(*map(one, candidates))
    return done


async def _repair(engine: Engine, candidate: Candidate, done: Repaired) -> None:
    if candidate.missing:
        reply = await engine.runs.ask_run(candidate.run_id, RepairRun(None), candidate.namespace)
        if not isinstance(reply, Refused) and reply.outcome == "repair_dispatched":
            done.missing += 1
            done.dispatched += 1
        return
    woken = await engine.runs.ask_run(candidate.run_id, WakeUp(), candidate.namespace)
    task = candidate.task
    if task is not None:
        engine.bring(
            candidate.namespace,
            ReadyTask(
                task_id=task.task_id,
                kind=task.kind,  # type: ignore[arg-type]  # as it was stored
                queue=task.queue,
                type_name=task.type_name,
                available_at=task.available_at,
                compatibility=task.compatibility,
                priority=task.priority,
                fairness_key=task.fairness_key,
                fairness_weight=task.fairness_weight,
            ),
        )
    if task is not None or not isinstance(woken, Refused):
        done.existing += 1
        done.dispatched += 1


async def wake(engine: Engine, any_ids: Sequence[str]) -> tuple[list[str], list[tuple[str, str]]]:
    """Have the runs of these ids look what is due: the ids of those in which something was, and (id, message) of those that
    could not be reached.
    """
    runs_of: dict[ids.RunKey, list[str]] = {}
    for any_id in any_ids:
        runs_of.setdefault(ids.key_in(any_id), []).append(any_id)
    changed: list[str] = []
    failures: list[tuple[str, str]] = []
    for of_run in runs_of.values():
        try:
            if not isinstance(await engine.runs.ask_run(of_run[0], WakeUp()), Refused):
                changed += of_run
        except (Unavailable, StoreError) as error:
            failures += [(any_id, str(error) or "The run cannot be reached just now.") for any_id in of_run]
    return changed, failures


@dataclass(frozen=True, slots=True)
class Enforced:
    """What became of an activity execution."""

    execution_id: str
    outcome: Literal["enforced", "skipped", "error"]
    has_retry: bool | None = None
    reason: str | None = None


async def enforce(db: Database, engine: Engine, namespace: str, execution_id: str, now: Micros) -> Enforced:
    """Time out an activity execution of a namespace whose deadline has passed."""
    run_key = ids.run_key_of(execution_id)
    if run_key is None or engine.runs.shard_of_id(execution_id) is None:
        return Enforced(execution_id, "skipped", reason="execution_not_found")
    try:
        before = await _state(db, run_key, namespace)
        if before is None or not ours(before, execution_id, ids.ACTIVITY):
            return Enforced(execution_id, "skipped", reason="execution_not_found")
        reason = _skipped(before, execution_id, now)
        if reason is not None:
            return Enforced(execution_id, "skipped", reason=reason)
        await engine.runs.ask_run(execution_id, WakeUp(), namespace)
        after = await _state(db, run_key, namespace)
    except (Unavailable, StoreError) as error:
        return Enforced(execution_id, "error", reason=str(error) or "The run cannot be reached just now.")
    left = None if after is None else _execution(after, execution_id)
    if after is not None and left is not None and expired_kind(left, now) is not None:
        return Enforced(execution_id, "error", reason="The deadline is not enforced yet; the pass can be repeated.")
    return Enforced(execution_id, "enforced", has_retry=left is not None)


def _skipped(state: RunState, execution_id: str, now: Micros) -> str | None:
    activity = _execution(state, execution_id)
    if not state.is_open:
        return "run_already_terminal"
    if activity is None or activity.status in ("withdrawn", "completed", "cancelled"):
        return "execution_already_terminal"
    return None if expired_kind(activity, now) is not None else "no_deadline_expired"


def _execution(state: RunState, execution_id: str) -> Activity | None:
    return next((each for each in state.activities.values() if each.execution_id == execution_id), None)


async def _state(db: Database, run_key: ids.RunKey, namespace: str) -> RunState | None:
    stored = await runs.load_by_key(db, run_key)
    return None if stored is None or stored.identity.namespace != namespace else decode(stored.row.state)


def scopes_of(
    found: Found, chosen: Sequence[Candidate]
) -> dict[tuple[str, str | None], tuple[list[Candidate], list[Candidate]]]:
    """Per scope its candidates, and those chosen of them."""
    scopes: dict[tuple[str, str | None], tuple[list[Candidate], list[Candidate]]] = {}
    for candidate in found.candidates:
        scopes.setdefault(candidate.scope, ([], []))[0].append(candidate)
    for candidate in chosen:
        scopes[candidate.scope][1].append(candidate)
    return scopes
