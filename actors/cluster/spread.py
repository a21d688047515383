"""Which live node should host which shard: a pure function of the nodes (architecture, Shards and placement)."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

_SLACK = 1.125  # a node may hold an eighth more than its even share; less slack would move more shards when nodes come and go


def wanted_owners(nodes: Sequence[str], shards: int) -> dict[int, str]:
    """The node that should host each of shards 0..`shards`-1, the same in every process for the same nodes in any order.

    Rendezvous hashing with bounded load: the highest score of (node, shard) wins as long as that node is not full. Empty
    without nodes.
    """
    if not nodes:
        return {}
    room = dict.fromkeys(nodes, math.ceil(shards / len(nodes) * (_SLACK if len(nodes) > 1 else 1)))
    scored = sorted(((_score(node, shard), shard, node) for node in room for shard in range(shards)), reverse=True)
    owners: dict[int, str] = {}
    for _, shard, node in scored:
        if shard not in owners and room[node]:
            owners[shard] = node
            room[node] -= 1
    return owners


def _score(node: str, shard: int) -> bytes:
    return hashlib.blake2b(f"{node}\0{shard}".encode(), digest_size=8).digest()
