"""Nodes and the shards they hold: leases by the database's clock (architecture, Shards and placement).

Owning a shard is an optimisation; runs are fenced by their version (rule 1). So nothing here needs to be exact at the
moment a lease ends. A node id is another matter: it belongs to one living process, its incarnation, and whatever an incarnation
that lost it still sends changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from store.connections.pool import Database
from store.sql import beside, filled

_NOW = "(extract(epoch FROM clock_timestamp()) * 1000000)::int8"
_FORGET_AFTER = 600_000_000  # microseconds after its lease ended that a node's row is removed

_SQL = {
    name: filled(
        text,
        now=_NOW,
        forget_after=str(_FORGET_AFTER),
        is_mine="EXISTS (SELECT FROM nodes WHERE node_id = $1 AND incarnation = $2)",
    )
    for name, text in beside(__file__).items()
}


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
    lease = int(ttl_seconds * 1_000_000)
    for what, name, *known, shard in await fetch(_SQL["beat"], node_id, incarnation, address, lease, draining):
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
    return sorted(row[0] for row in await db.fetch(_SQL["acquire"], node_id, incarnation, list(shards)))


async def release(db: Database, node_id: str, incarnation: str, shards: Sequence[int]) -> list[int]:
    """Give up those of `shards` this node holds; which they were."""
    return sorted(row[0] for row in await db.fetch(_SQL["release"], node_id, incarnation, list(shards)))


async def leave(db: Database, node_id: str, incarnation: str) -> None:
    """Give up everything and end the lease: the others may take over at once."""
    await db.execute(_SQL["leave"], node_id, incarnation)


async def living(db: Database) -> list[str]:
    """The nodes whose lease runs."""
    return [row[0] for row in await db.fetch(f"SELECT node_id FROM nodes WHERE expires_at > {_NOW}")]
