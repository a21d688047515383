"""A node id belongs to one living process: how a process makes it its own.

Who is frozen and finds its id with another process later learns it from `placement`.
"""

from __future__ import annotations

import asyncio
import logging

from base.observability.actions import said
from store.cluster import nodes as leases
from store.connections.pool import Database

_log = logging.getLogger("dw.actors")

LEASE_SECONDS = 3.0  # how long the others wait for a silent node

_CLAIM_PAUSE_SECONDS = 0.1


class NodeIdTaken(Exception):
    """Another living process has the node id; the message is fit for a console."""


async def claim_node_id(db: Database, node_id: str, incarnation: str, address: str, ttl_seconds: float = LEASE_SECONDS) -> None:
    """Make `node_id` this process's own for `ttl_seconds`.

    Waits for the lease of a predecessor that died, or is draining. Raises `NodeIdTaken` when the process that has it is seen
    alive, `StoreError` when the database is away.
    """
    first: leases.Node | None = None
    while True:
        seen = await leases.beat(db, node_id, incarnation, address, ttl_seconds)
        holder = seen.holder
        if holder is None:
            return
        if first is None or first.incarnation != holder.incarnation or holder.draining:
            if first is None:
                _log.info(
                    "node id %s belongs to the process at %s until its lease ends",
                    node_id,
                    holder.address,
                    extra=said("node_id.taken", peer=holder.address),
                )
            first = holder
        elif holder.expires_at > first.expires_at:
            raise NodeIdTaken(
                f"node id {node_id} belongs to a living process, which serves at {holder.address}: "
                "give each node of the cluster an id of its own (DW_NODE_ID, --node-id)"
            )
        await asyncio.sleep(_CLAIM_PAUSE_SECONDS)
