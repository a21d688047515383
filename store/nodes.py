"""Nodes and the shards they hold: leases by the database's clock (architecture, Shards and placement).

Owning a shard is an optimisation; runs are fenced by their version (rule 1). So nothing here needs to be exact at the
moment a lease ends. A node id is another matter: it belongs to one living process, its incarnation, and whatever an incarnation
that lost it still sends changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from store.pool import Database

_NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::int8"
_FORGET_AFTER = 600_000_000  # microseconds after its lease ended that a node's row is removed

_BEAT = f"""
WITH clock AS MATERIALIZED (SELECT {_NOW} AS now),
forgotten AS (
    DELETE FROM nodes n USING clock WHERE n.expires_at < clock.now - {_FORGET_AFTER} AND n.node_id <> $1
),
mine AS (
    INSERT INTO nodes AS n (node_id, incarnation, address, started_at, expires_at, draining)
    SELECT $1, $2, $3, now, now + $4::int8, $5 FROM clock
    ON CONFLICT (node_id) DO UPDATE
    SET incarnation = excluded.incarnation,
        address = excluded.address,
        started_at = CASE WHEN n.incarnation = excluded.incarnation THEN n.started_at ELSE excluded.started_at END,
        expires_at = excluded.expires_at,
        draining = excluded.draining
    WHERE n.incarnation = excluded.incarnation OR n.expires_at <= {_NOW}
    RETURNING node_id, incarnation, address, draining, expires_at
)
SELECT 'n' AS what, node_id, incarnation, address, draining, expires_at, NULL::int4 AS shard FROM mine
UNION ALL
SELECT 'n', n.node_id, n.incarnation, n.address, n.draining, n.expires_at, NULL
FROM nodes n, clock WHERE n.expires_at > clock.now AND n.node_id <> $1
UNION ALL
SELECT 'h', n.node_id, n.incarnation, n.address, n.draining, n.expires_at, NULL
FROM nodes n WHERE n.node_id = $1 AND NOT EXISTS (SELECT FROM mine)
UNION ALL
SELECT 'c', '', NULL, NULL, NULL, clock.now, NULL FROM clock
UNION ALL
SELECT 's', s.node_id, NULL, NULL, NULL, NULL, s.shard FROM shards s
"""

# Only for an incarnation that still has its node id.
_IS_MINE = "EXISTS (SELECT FROM nodes WHERE node_id = $1 AND incarnation = $2)"

_ACQUIRE = f"""
UPDATE shards s
SET node_id = $1, acquired_at = CASE WHEN s.node_id = $1 THEN s.acquired_at ELSE {_NOW} END
FROM (SELECT shard FROM shards WHERE shard = ANY ($3) ORDER BY shard FOR UPDATE) wanted
WHERE s.shard = wanted.shard
    AND {_IS_MINE}
    AND (
        s.node_id IS NULL
        OR s.node_id = $1
        OR NOT EXISTS (SELECT FROM nodes n WHERE n.node_id = s.node_id AND n.expires_at > {_NOW})
    )
RETURNING s.shard
"""

_RELEASE = f"""
UPDATE shards SET node_id = NULL, acquired_at = NULL WHERE node_id = $1 AND {_IS_MINE} AND shard = ANY ($3) RETURNING shard
"""

_LEAVE = """
WITH gone AS (DELETE FROM nodes WHERE node_id = $1 AND incarnation = $2 RETURNING node_id)
UPDATE shards s SET node_id = NULL, acquired_at = NULL FROM gone WHERE s.node_id = gone.node_id
"""


@dataclass(frozen=True, slots=True)
class Node:
    """A row of `nodes`. `expires_at`: end of its lease, microseconds by the database's clock."""

    node_id: str
    incarnation: str
    address: str
    draining: bool
    expires_at: int


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat tells: the nodes whose lease runs, this one included, and every shard's holder (dead ones too).

    `holder`: another incarnation has this node id; nothing was renewed.
    """

    nodes: list[Node]  # by node id
    owners: dict[int, str | None]
    holder: Node | None = None
    clock: int = 0
    """The database's clock while it was asked, in microseconds since the Unix epoch."""


async def beat(
    db: Database,
    node_id: str,
    incarnation: str,
    address: str,
    ttl_seconds: float,
    draining: bool = False,
    *,
    apart: bool = False,
) -> Beat:
    """Renew this node's lease for `ttl_seconds` and look around, in one statement; `apart`: on a connection of its own.

    Registers a node not known yet, and takes over a node id whose lease has ended.
    """
    fetch = db.fetch_apart if apart else db.fetch
    nodes: list[Node] = []
    owners: dict[int, str | None] = {}
    holder: Node | None = None
    clock = 0
    for what, name, *known, shard in await fetch(_BEAT, node_id, incarnation, address, int(ttl_seconds * 1_000_000), draining):
        if what == "s":
            owners[shard] = name
        elif what == "n":
            nodes.append(Node(name, *known))
        elif what == "c":
            clock = known[-1]
        else:
            holder = Node(name, *known)
    nodes.sort(key=lambda node: node.node_id)
    return Beat(nodes, owners, holder, clock)


async def clock(db: Database) -> int:
    """The database's clock, in microseconds since the Unix epoch."""
    return int(await db.fetchval(f"SELECT {_NOW}"))


async def acquire(db: Database, node_id: str, incarnation: str, shards: Sequence[int]) -> list[int]:
    """Take those of `shards` nobody holds, or whose holder's lease has ended; what this node holds of them now, ascending."""
    return sorted(row[0] for row in await db.fetch(_ACQUIRE, node_id, incarnation, list(shards)))


async def release(db: Database, node_id: str, incarnation: str, shards: Sequence[int]) -> list[int]:
    """Give up those of `shards` this node holds; which they were."""
    return sorted(row[0] for row in await db.fetch(_RELEASE, node_id, incarnation, list(shards)))


async def leave(db: Database, node_id: str, incarnation: str) -> None:
    """Give up everything and end the lease: the others may take over at once."""
    await db.execute(_LEAVE, node_id, incarnation)
