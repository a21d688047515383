"""Prunes runs that are named: what may go, what stays and why (contract operations 6.3)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from actors.run.state import is_archived
from store.connections.pool import Database
from store.upkeep import bare_runs, pruning
from store.upkeep.pruning import Candidate, Pruned

DAY_MICROS = 86_400 * 1_000_000

_TRIES = 4
_PAUSE_SECONDS = 0.05  # somebody else prunes it, or changes it


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run: `pruned` says what went with it, `reason` why it stayed."""

    run_id: str
    outcome: Literal["pruned", "skipped", "error"]
    pruned: Pruned | None = None
    reason: str | None = None


def cutoff(now: int, retention_days: int) -> int:
    """Runs closed before that are expired. Microseconds."""
    return now - retention_days * DAY_MICROS


async def prune_looked_at(db: Database, found: Sequence[Candidate]) -> tuple[list[Pruned], dict[str, str]]:
    """Prune what may go of these runs: what went, and why others stay by run id; what changed meanwhile is in neither."""
    may_go: list[Candidate] = []
    stays: dict[str, str] = {}
    archived: list[str] = []
    for run in found:
        if run.is_open:
            stays[run.run_id] = "run_not_terminal"
        elif is_archived(run.state):
            archived.append(run.run_id)
            stays[run.run_id] = "run_archived"
        elif run.unpublished:
            stays[run.run_id] = "run_events_unpublished"
        else:
            may_go.append(run)
    if archived:
        await pruning.keep(db, archived)
    return (await pruning.prune(db, may_go) if may_go else []), stays


async def prune_named(db: Database, namespace: str, run_ids: Sequence[str]) -> list[Outcome]:
    """Prune these runs of a namespace, whatever their age; one outcome for each, in order.

    One that was pruned before is `pruned` with nothing deleted. Told again after an unknown outcome it does no harm.
    """
    left = list(dict.fromkeys(run_ids))
    done: dict[str, Outcome] = {}
    for attempt in range(_TRIES):
        if attempt:
            await asyncio.sleep(_PAUSE_SECONDS)
        found = [run for run in await pruning.look_at(db, left) if run.namespace == namespace]
        pruned, stays = await prune_looked_at(db, found)
        done |= {run.run_id: Outcome(run.run_id, "pruned", run) for run in pruned}
        done |= {run_id: Outcome(run_id, "skipped", reason=reason) for run_id, reason in stays.items()}
        there = {run.run_id for run in found}
        for run_id in left:
            if run_id not in there:
                bare = await bare_runs.get(db, run_id)
                known = bare is not None and bare.namespace == namespace
                nothing = Pruned(run_id, 0, 0, 0, 0)
                done[run_id] = (
                    Outcome(run_id, "pruned", nothing) if known else Outcome(run_id, "skipped", reason="run_not_found")
                )
        left = [run_id for run_id in left if run_id not in done]
        if not left:
            break
    for run_id in left:
        done[run_id] = Outcome(run_id, "error", reason="The run is being changed; the pass can be repeated.")
    return [done[run_id] for run_id in dict.fromkeys(run_ids)]
