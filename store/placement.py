"""Nodes and the shards they hold: leases by the database's clock (architecture, Shards and placement).

Owning a shard is an optimisation; runs are fenced by their version (rule 1). So nothing here needs to be exact at the
moment a lease ends.
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
    INSERT INTO nodes (node_id, address, started_at, expires_at, draining)
    SELECT $1, $2, now, now + $3::int8, $4 FROM clock
    ON CONFLICT (node_id) DO UPDATE
    SET address = excluded.address, expires_at = excluded.expires_at, draining = excluded.draining
    RETURNING node_id, address, draining
)
SELECT 'n' AS what, node_id, address, draining, NULL::int4 AS shard FROM mine
UNION ALL
SELECT 'n', n.node_id, n.address, n.draining, NULL FROM nodes n, clock WHERE n.expires_at > clock.now AND n.node_id <> $1
UNION ALL
SELECT 's', s.node_id, NULL, NULL, s.shard FROM shards s
"""

_ACQUIRE = f"""
UPDATE shards s
SET node_id = $1, acquired_at = CASE WHEN s.node_id = $1 THEN s.acquired_at ELSE {_NOW} END
FROM (SELECT shard FROM shards WHERE shard = ANY ($2) ORDER BY shard FOR UPDATE) wanted
WHERE s.shard = wanted.shard
    AND (
        s.node_id IS NULL
        OR s.node_id = $1
        OR NOT EXISTS (SELECT FROM nodes n WHERE n.node_id = s.node_id AND n.expires_at > {_NOW})
    )
RETURNING s.shard
"""


@dataclass(frozen=True, slots=True)
class Node:
    node_id: str
    address: str
    draining: bool


@dataclass(frozen=True, slots=True)
class Beat:
    """What a heartbeat tells: the nodes whose lease runs, this one included, and every shard's holder (dead ones too)."""

    nodes: list[Node]  # by node id
    owners: dict[int, str | None]


async def beat(db: Database, node_id: str, address: str, ttl_seconds: float, draining: bool = False) -> Beat:
    """Renew this node's lease for `ttl_seconds` and look around, in one statement. Registers a node not known yet."""
    nodes: list[Node] = []
    owners: dict[int, str | None] = {}
    for what, holder, its_address, its_draining, shard in await db.fetch(
        _BEAT, node_id, address, int(ttl_seconds * 1_000_000), draining
    ):
        if what == "s":
            owners[shard] = holder
        else:
            nodes.append(Node(holder, its_address, its_draining))
    nodes.sort(key=lambda node: node.node_id)
    return Beat(nodes, owners)


async def acquire(db: Database, node_id: str, shards: Sequence[int]) -> list[int]:
    """Take those of `shards` nobody holds, or whose holder's lease has ended; what this node holds of them now, ascending."""
    return sorted(row[0] for row in await db.fetch(_ACQUIRE, node_id, list(shards)))


async def release(db: Database, node_id: str, shards: Sequence[int]) -> list[int]:
    """Give up those of `shards` this node holds; which they were."""
    rows = await db.fetch(
        "UPDATE shards SET node_id = NULL, acquired_at = NULL WHERE node_id = $1 AND shard = ANY ($2) RETURNING shard",
        node_id,
        list(shards),
    )
    return sorted(row[0] for row in rows)


async def leave(db: Database, node_id: str) -> None:
    """Give up everything and end the lease: the others may take over at once."""
    async with db.transaction() as connection:
        await connection.execute("UPDATE shards SET node_id = NULL, acquired_at = NULL WHERE node_id = $1", node_id)
        await connection.execute("DELETE FROM nodes WHERE node_id = $1", node_id)
