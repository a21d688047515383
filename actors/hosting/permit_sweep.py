"""Sweeps the places under caps (contract operations 2.4): those of past minutes, and those no run knows of.

A place goes with its lease, in one commit. One is left over only where the run itself was taken away, or changed by a program
that knows of no permits (an older one, during an upgrade): then its run does not hold it, and it is given back from here.
"""

from __future__ import annotations

import asyncio

from actors.queue.admission import scopes
from actors.run.state import decode
from actors.run.times import SECOND, Micros
from store import admission, runs
from store.commit.writes import PermitRow
from store.connections.pool import Database

_KEEP_MINUTES = 2  # clocks of nodes differ little, budgets of a minute ago are nobody's any more
_AT_ONCE = 1000
_PAGE = 200
_PAUSE_SECONDS = 0.02
_YOUNG = 60 * SECOND  # rows are looked at when they are older: most are gone by then


async def sweep(db: Database, now: Micros) -> int:
    """Delete what nobody needs, in small batches; how many places of leases were left over. `now`: microseconds."""
    past = scopes.past(scopes.minute_of(now) - _KEEP_MINUTES)
    forgotten = await admission.forget(db, *past, _AT_ONCE)
    while forgotten == _AT_ONCE:
        await asyncio.sleep(_PAUSE_SECONDS)
        forgotten = await admission.forget(db, *past, _AT_ONCE)
    first, end = scopes.LEASES
    after, found = (first, 0), 0
    while page := await admission.between(db, after, end, now - _YOUNG, _PAGE):
        after = page[-1].scope, page[-1].number
        states = await runs.states(db, list({row.run_id for row in page}))
        left = [row for row in page if not _held(states.get(row.run_id), row)]
        if left:
            # A run that took the place anew meanwhile has another row.
            found += await admission.give_back(db, left)
        await asyncio.sleep(_PAUSE_SECONDS)
    return found


def _held(state: bytes | None, row: PermitRow) -> bool:
    if state is None:
        return False
    permits = decode(state).permits.get(row.task_id, ())
    return any(permit.scope == row.scope and permit.number == row.number for permit in permits)
