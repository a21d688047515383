"""Leases of nodes and shards."""

from __future__ import annotations

import asyncio

from store.cluster import nodes
from store.cluster.nodes import Beat
from store.connections.pool import Database


def _shown(seen: Beat) -> list[tuple[str, str, bool]]:
    return [(node.node_id, node.address, node.draining) for node in seen.nodes]


async def test_beat_tells_live_nodes_and_owners(db: Database) -> None:
    first = await nodes.beat(db, "a", "p", "host:1", 5)
    assert _shown(first) == [("a", "host:1", False)]
    assert first.owners == dict.fromkeys(range(8))
    await nodes.beat(db, "b", "p", "host:2", 5)
    assert await nodes.acquire(db, "b", "p", [3, 1]) == [1, 3]
    seen = await nodes.beat(db, "a", "p", "host:9", 5, draining=True)
    assert _shown(seen) == [("a", "host:9", True), ("b", "host:2", False)]
    assert seen.owners == {n: "b" if n in {1, 3} else None for n in range(8)}


async def test_only_free_and_orphaned_shards_can_be_taken(db: Database) -> None:
    await nodes.beat(db, "a", "p", "x", 0.2)
    await nodes.beat(db, "b", "p", "y", 5)
    assert await nodes.acquire(db, "a", "p", [0, 1, 2]) == [0, 1, 2]
    assert await nodes.acquire(db, "b", "p", [2, 3, 99]) == [3]
    assert await nodes.acquire(db, "b", "p", [3]) == [3], "what it holds already counts"
    await asyncio.sleep(0.3)
    assert [node.node_id for node in (await nodes.beat(db, "b", "p", "y", 5)).nodes] == ["b"]
    assert await nodes.acquire(db, "b", "p", [1, 2]) == [1, 2]
    late = await nodes.beat(db, "a", "p", "x", 5)
    assert (late.owners[0], late.owners[1]) == ("a", "b"), "a node that comes back sees what it lost"


async def test_racing_nodes_share_out_every_shard_once(db: Database) -> None:
    names = [f"n{n}" for n in range(6)]
    for name in names:
        await nodes.beat(db, name, "p", "x", 30)
    taken = await asyncio.gather(*[nodes.acquire(db, name, "p", list(range(8))) for name in names for _ in range(3)])
    owners = (await nodes.beat(db, "n0", "p", "x", 30)).owners
    for number, shards in enumerate(taken):
        assert all(owners[shard] == names[number // 3] for shard in shards)
    assert None not in owners.values()


async def test_release_and_leave(db: Database) -> None:
    await nodes.beat(db, "a", "p", "x", 30)
    await nodes.beat(db, "b", "p", "x", 30)
    await nodes.acquire(db, "a", "p", [0, 1, 2])
    assert await nodes.release(db, "b", "p", [0]) == []
    assert await nodes.release(db, "a", "p", [1, 5]) == [1]
    assert await nodes.acquire(db, "b", "p", [0, 1, 2]) == [1]
    await nodes.leave(db, "a", "p")
    seen = await nodes.beat(db, "b", "p", "x", 30)
    assert [node.node_id for node in seen.nodes] == ["b"]
    assert [seen.owners[n] for n in (0, 1, 2)] == [None, "b", None]


async def test_long_dead_nodes_are_forgotten(db: Database) -> None:
    await nodes.beat(db, "a", "p", "x", -700)
    await nodes.beat(db, "b", "p", "x", -30)
    await nodes.beat(db, "c", "p", "x", 30)
    assert [row[0] for row in await db.fetch("SELECT node_id FROM nodes ORDER BY 1")] == ["b", "c"]


async def test_a_node_id_belongs_to_one_process(db: Database) -> None:
    await nodes.beat(db, "a", "first", "x", 30)
    await nodes.acquire(db, "a", "first", [0, 1])
    twin = await nodes.beat(db, "a", "second", "y", 30)
    assert twin.nodes == [] and twin.holder is not None and twin.holder.incarnation == "first"
    assert await nodes.acquire(db, "a", "second", [2]) == []
    assert await nodes.release(db, "a", "second", [0]) == []
    await nodes.leave(db, "a", "second")
    seen = await nodes.beat(db, "a", "first", "x", 30)
    assert _shown(seen) == [("a", "x", False)] and seen.holder is None
    assert [seen.owners[n] for n in (0, 1, 2)] == ["a", "a", None]


async def test_a_node_id_whose_lease_ended_goes_to_the_next_process_with_its_shards(db: Database) -> None:
    await nodes.beat(db, "a", "first", "x", 0.2)
    await nodes.acquire(db, "a", "first", [0, 1])
    await asyncio.sleep(0.3)
    taken = await nodes.beat(db, "a", "second", "y", 30)
    assert _shown(taken) == [("a", "y", False)]
    assert await nodes.acquire(db, "a", "second", [0, 1]) == [0, 1]
    late = await nodes.beat(db, "a", "first", "x", 30)
    assert late.nodes == [] and late.holder is not None and late.holder.incarnation == "second"
    assert await nodes.release(db, "a", "first", [0, 1]) == []
    await nodes.leave(db, "a", "first")
    assert (await nodes.beat(db, "a", "second", "y", 30)).owners[0] == "a"
