"""Lists and counts of runs by condition (control-plane 5.3)."""

from __future__ import annotations

from typing import Annotated, NamedTuple

import msgspec

from store.connections.pool import Database
from store.runs import ITEMS, RunItem
from store.visibility.conditions import Condition
from store.visibility.sql import Statement, has_status

Sql = tuple[str, list[object]]


class Position(NamedTuple):
    """A place in the order of `listing`. Both parts of a run never change, so a place stays where it is."""

    started_at: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    run_id: Annotated[str, msgspec.Meta(pattern=r"^[^\x00]{1,255}$")]


async def listing(
    db: Database,
    namespace: str,
    condition: Condition | None = None,
    *,
    after: Position | None = None,
    limit: int = 50,
) -> list[RunItem]:
    """Runs of a namespace that fulfil the condition, newest first, ties by run id descending.

    `after` leaves out everything up to and including that position, whether its run is still listed or not. Ask for one row
    more than a page to learn whether another page follows.
    """
    ways = [listing_sql(namespace, condition, after, limit)]
    if has_status(condition):
        ways.append(listing_sql(namespace, condition, after, limit, by_status=True))
    sql, args = await _cheapest(db, ways)
    return [ITEMS.read(row) for row in await db.fetch(sql, *args)]


async def count(db: Database, namespace: str, condition: Condition | None = None) -> int:
    """How many runs of a namespace fulfil the condition."""
    ways = [count_sql(namespace, condition)]
    if has_status(condition):
        ways.append(count_sql(namespace, condition, by_status=True))
    sql, args = await _cheapest(db, ways)
    return int(await db.fetchval(sql, *args))


async def _cheapest(db: Database, ways: list[Sql]) -> Sql:
    """The way the planner thinks cheapest, of several to find the same."""
    if len(ways) == 1:
        return ways[0]
    costs = []
    for sql, args in ways:
        (plan,) = msgspec.json.decode(await db.fetchval(f"EXPLAIN (FORMAT JSON) {sql}", *args))
        costs.append(plan["Plan"]["Total Cost"])
    return ways[costs.index(min(costs))]


def listing_sql(
    namespace: str, condition: Condition | None, after: Position | None, limit: int, *, by_status: bool = False
) -> Sql:
    """The statement of `listing` and its arguments."""
    statement = Statement(namespace, condition, by_status=by_status)
    asked, started_at, run_id = statement.asked, statement.started_at, statement.run_id
    if after is not None:
        # A bound on the time alone enters the index at the position; `run_id` may stand in no second index of its table.
        time, run = statement.bind(after.started_at), statement.bind(after.run_id)
        asked.append(f"{started_at} <= {time} AND ({started_at} < {time} OR {run_id} < {run})")
    sql = f"SELECT {ITEMS.names} FROM {statement.source} WHERE {' AND '.join(asked)}"
    return f"{sql} ORDER BY {started_at} DESC, {run_id} DESC LIMIT {statement.bind(limit)}", statement.args


def count_sql(namespace: str, condition: Condition | None, *, by_status: bool = False) -> Sql:
    """The statement of `count` and its arguments."""
    statement = Statement(namespace, condition, by_status=by_status)
    return f"SELECT count(*) FROM {statement.source} WHERE {' AND '.join(statement.asked)}", statement.args
