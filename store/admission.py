"""Places under the caps of task queues. The group commit takes them and gives them back; here they are looked at and swept."""

from __future__ import annotations

from collections.abc import Sequence

from store.columns import Table
from store.commit.writes import PermitRow
from store.connections.pool import Database

_PERMITS = Table(PermitRow)
_BETWEEN = f"""
SELECT {_PERMITS.names} FROM admission_permits
WHERE (scope, number) > ($1, $2) AND scope < $3 AND taken_at < $4 ORDER BY scope, number LIMIT $5
"""
_FORGET = """
DELETE FROM admission_permits p
USING (SELECT scope, number FROM admission_permits WHERE scope >= $1 AND scope < $2 ORDER BY scope, number LIMIT $3) AS old
WHERE p.scope = old.scope AND p.number = old.number
"""


async def taken(db: Database, scopes: Sequence[str]) -> dict[str, list[int]]:
    """The numbers of these scopes that somebody has."""
    rows = await db.fetch("SELECT scope, number FROM admission_permits WHERE scope = ANY ($1)", list(scopes))
    found: dict[str, list[int]] = {scope: [] for scope in scopes}
    for row in rows:
        found[row[0]].append(row[1])
    return found


async def counts(db: Database, scopes: Sequence[str]) -> dict[str, int]:
    """How many places of these scopes are taken."""
    sql = "SELECT scope, count(*) FROM admission_permits WHERE scope = ANY ($1) GROUP BY scope"
    return dict.fromkeys(scopes, 0) | {row[0]: row[1] for row in await db.fetch(sql, list(scopes))}


async def among(db: Database, places: Sequence[tuple[str, int]]) -> set[tuple[str, int]]:
    """Which of these places somebody has."""
    sql = """
        SELECT p.scope, p.number FROM unnest($1::text[], $2::int4[]) AS u(scope, number)
        JOIN admission_permits p ON p.scope = u.scope AND p.number = u.number
    """
    rows = await db.fetch(sql, [scope for scope, _ in places], [number for _, number in places])
    return {(row[0], row[1]) for row in rows}


async def between(db: Database, after: tuple[str, int], end: str, before: int, limit: int) -> list[PermitRow]:
    """Places behind `after` (scope, number), of scopes below `end`, that were taken before an instant (microseconds)."""
    return [_PERMITS.read(row) for row in await db.fetch(_BETWEEN, *after, end, before, limit)]


async def forget(db: Database, first: str, end: str, limit: int) -> int:
    """Delete places of the scopes from `first` up to `end`, without it, at most so many; how many they were."""
    return await db.execute(_FORGET, first, end, limit)


async def give_back(db: Database, rows: Sequence[PermitRow]) -> int:
    """Delete these very rows, should they still be there; how many were."""
    sql = """
        DELETE FROM admission_permits p
        USING unnest($1::text[], $2::int4[], $3::text[], $4::int8[]) AS u(scope, number, run_id, at)
        WHERE p.scope = u.scope AND p.number = u.number AND p.run_id = u.run_id AND p.taken_at = u.at
    """
    columns = [[getattr(row, name) for row in rows] for name in ("scope", "number", "run_id", "taken_at")]
    return await db.execute(sql, *columns)
