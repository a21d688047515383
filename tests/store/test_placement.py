"""Leases of nodes and shards."""

from __future__ import annotations

import asyncio

from store import placement
from store.placement import Node
from store.pool import Database


async def test_beat_tells_live_nodes_and_owners(db: Database) -> None:
    first = await placement.beat(db, "a", "host:1", 5)
    assert first.nodes == [Node("a", "host:1", False)]
    assert first.owners == dict.fromkeys(range(8))
    await placement.beat(db, "b", "host:2", 5)
    assert await placement.acquire(db, "b", [3, 1]) == [1, 3]
    seen = await placement.beat(db, "a", "host:9", 5, draining=True)
    assert seen.nodes == [Node("a", "host:9", True), Node("b", "host:2", False)]
    assert seen.owners == {n: "b" if n in {1, 3} else None for n in range(8)}


async def test_only_free_and_orphaned_shards_can_be_taken(db: Database) -> None:
    await placement.beat(db, "a", "x", 0.2)
    await placement.beat(db, "b", "y", 5)
    assert await placement.acquire(db, "a", [0, 1, 2]) == [0, 1, 2]
    assert await placement.acquire(db, "b", [2, 3, 99]) == [3]
    assert await placement.acquire(db, "b", [3]) == [3], "what it holds already counts"
    await asyncio.sleep(0.3)
    assert [node.node_id for node in (await placement.beat(db, "b", "y", 5)).nodes] == ["b"]
    assert await placement.acquire(db, "b", [1, 2]) == [1, 2]
    late = await placement.beat(db, "a", "x", 5)
    assert (late.owners[0], late.owners[1]) == ("a", "b"), "a node that comes back sees what it lost"


async def test_racing_nodes_share_out_every_shard_once(db: Database) -> None:
    names = [f"n{n}" for n in range(6)]
    for name in names:
        await placement.beat(db, name, "x", 30)
    taken = await asyncio.gather(*[placement.acquire(db, name, list(range(8))) for name in names for _ in range(3)])
    owners = (await placement.beat(db, "n0", "x", 30)).owners
    for number, shards in enumerate(taken):
        assert all(owners[shard] == names[number // 3] for shard in shards)
    assert None not in owners.values()


async def test_release_and_leave(db: Database) -> None:
    await placement.beat(db, "a", "x", 30)
    await placement.beat(db, "b", "x", 30)
    await placement.acquire(db, "a", [0, 1, 2])
    assert await placement.release(db, "b", [0]) == []
    assert await placement.release(db, "a", [1, 5]) == [1]
    assert await placement.acquire(db, "b", [0, 1, 2]) == [1]
    await placement.leave(db, "a")
    seen = await placement.beat(db, "b", "x", 30)
    assert [node.node_id for node in seen.nodes] == ["b"]
    assert [seen.owners[n] for n in (0, 1, 2)] == [None, "b", None]


async def test_long_dead_nodes_are_forgotten(db: Database) -> None:
    await placement.beat(db, "a", "x", -700)
    await placement.beat(db, "b", "x", -30)
    await placement.beat(db, "c", "x", 30)
    assert [row[0] for row in await db.fetch("SELECT node_id FROM nodes ORDER BY 1")] == ["b", "c"]
