"""Runs as they are stored, pruned ones included: those are shown as closed runs without history (contract operations 6.3)."""

from __future__ import annotations

from actors.run import ids
from actors.run.lifecycle.bare import bare_state
from actors.run.state import encode
from store import runs
from store.commit.writes import RunIdentity, RunRow
from store.connections.pool import Database
from store.runs import StoredRun
from store.upkeep import bare_runs
from store.upkeep.bare_runs import BareRun

PRUNED = -1
"""The version of a pruned run: no commit ever expects it, as nothing of such a run changes."""


async def load(db: Database, run_id: str) -> StoredRun | None:
    """The run with this id; None when there is none."""
    found = await runs.load(db, run_id)
    return found if found is not None else _stored(await bare_runs.get(db, run_id))


async def load_by_key(db: Database, run_key: str) -> StoredRun | None:
    """The run whose ids carry this key; None when there is none."""
    found = await runs.load_by_key(db, run_key)
    return found if found is not None else _stored(await bare_runs.by_key(db, run_key))


def _stored(run: BareRun | None) -> StoredRun | None:
    if run is None:
        return None
    facts = {name: getattr(run, name) for name in BareRun.__slots__}
    identity = RunIdentity(
        run_key=ids.key_in(run.run_id),
        shard=0,
        namespace=run.namespace,
        workflow_id=run.workflow_id,
        run_number=run.run_number,
        workflow_type=run.workflow_type,
        task_queue=run.task_queue,
        business_key=run.business_key,
        compatibility=run.compatibility,
        started_at=run.started_at,
        memo=b"{}",
        search_attributes=b"{}",
    )
    row = RunRow(
        status=run.status,
        closed_reason=run.closed_reason,
        closed_at=run.closed_at,
        last_progress_at=run.closed_at,
        wake_at=None,
        last_sequence=0,
        published_sequence=0,
        state=encode(bare_state(**facts)),
        search_attributes=b"{}",
    )
    return StoredRun(run.run_id, PRUNED, identity, row)
