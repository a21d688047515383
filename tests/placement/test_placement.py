"""Shards over live nodes, on a real Postgres and NATS."""

from __future__ import annotations

import asyncio
import itertools
import random
import secrets
import shutil
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from actors.cluster.node_id import NodeIdTaken, claim_node_id
from actors.cluster.placement import Placement
from actors.cluster.spread import wanted_owners
from bus.broadcast import Broadcast
from bus.connection import Bus
from store.connections.pool import Database
from store.migrate import migrate
from tests.support.defaults import make_bus_options, seed_database
from tests.support.proxy import Links
from tests.support.services import Deployment, TestServices

SHARDS = 64


# -- the map ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_shards_are_spread_about_evenly(count: int) -> None:
    for names in ([f"node-{n}" for n in range(count)], [f"10.0.0.{n}:8080" for n in range(count)]):
        load = Counter(wanted_owners(names, SHARDS).values())
        assert sum(load.values()) == SHARDS and len(load) == count
        assert max(load.values()) <= SHARDS / count * 1.125 + 1
        assert min(load.values()) >= SHARDS / count * 0.5


def test_the_map_does_not_depend_on_the_order_of_nodes_or_the_process() -> None:
    names = [f"node-{n}" for n in range(5)]
    expected = wanted_owners(names, SHARDS)
    for _ in range(5):
        random.shuffle(names)
        assert wanted_owners(names, SHARDS) == expected
    assert [wanted_owners(["a", "b"], 8)[shard] for shard in range(8)] == ["a", "a", "a", "b", "a", "b", "b", "a"]


def test_a_joining_node_moves_little_and_a_leaving_one_only_its_own() -> None:
    for names in itertools.combinations([f"n{n}" for n in range(6)], 3):
        two, three = wanted_owners(names[:2], SHARDS), wanted_owners(names, SHARDS)
        assert sum(two[shard] != three[shard] for shard in range(SHARDS)) <= SHARDS / 3 + 10


def test_no_nodes() -> None:
    assert wanted_owners([], SHARDS) == {}


# -- nodes --------------------------------------------------------------------------------------------------------------


class Node:
    """A placement with its calls recorded."""

    def __init__(self, name: str, services: TestServices, dsn: str, prefix: str, *, ttl: float, beat: float) -> None:
        self.name = name
        self.lapsed: list[str] = []
        self.ttl = ttl
        self.replaced: list[str] = []
        self.calls: list[tuple[str, list[int]]] = []
        self.dead: list[str] = []
        self.drain: Callable[[], Awaitable[None]] | None = None
        self.db = Database(dsn, size=2, timeout_seconds=3)
        self.bus = Bus(make_bus_options(servers=(services.nats.url,), prefix=prefix), name)
        self.placement = Placement(
            self.db,
            name,
            self.bus.process,
            f"http://{name}",
            SHARDS,
            ttl_seconds=ttl,
            beat_seconds=beat,
            broadcast=Broadcast(self.bus),
            on_acquire=self._acquired,
            on_release=self._released,
            on_dead=self.dead.append,
            on_replaced=self.replaced.append,
            on_lapsed=self.lapsed.append,
        )

    async def _acquired(self, shards: list[int]) -> None:
        assert all(self.placement.owns(shard) for shard in shards)
        self.calls.append(("acquire", shards))

    async def _released(self, shards: list[int], drain: bool) -> None:
        if drain:
            assert all(self.placement.owns(shard) for shard in shards)
            if self.drain is not None:
                await self.drain()
        self.calls.append(("release" if drain else "lose", shards))

    async def start(self) -> Node:
        await self.db.start()
        await self.bus.start()
        await self.bus.wait_connected(5)
        await claim_node_id(self.db, self.name, self.bus.process, f"http://{self.name}", self.ttl)
        await self.placement.start()
        return self

    async def die(self) -> None:
        """Stop beating without a word."""
        task = self.placement._beating
        assert task is not None
        task.cancel()
        await self.bus.stop()

    async def close(self) -> None:
        await self.placement.stop(1)
        await self.bus.stop()
        await self.db.stop()


MakeNode = Callable[..., Node]


async def _make(services: TestServices) -> AsyncIterator[MakeNode]:
    dsn = services.empty_database()
    prefix = f"t{secrets.token_hex(4)}"
    await migrate(dsn)
    db = Database(dsn)
    await db.start()
    await seed_database(db, shards=SHARDS)
    await db.stop()
    made: list[Node] = []

    def make(name: str, *, ttl: float = 3.0, beat: float = 1.0, way: str | None = None) -> Node:
        node = Node(name, services, way or dsn, prefix, ttl=ttl, beat=beat)
        made.append(node)
        return node

    yield make
    for node in made:
        await node.close()


@pytest.fixture
async def make_node(services: TestServices) -> AsyncIterator[MakeNode]:
    """`make_node("name")` on shared services."""
    async for make in _make(services):
        yield make


@pytest.fixture
async def make_node_apart(own_services: TestServices) -> AsyncIterator[MakeNode]:
    """The same on services of this test alone."""
    async for make in _make(own_services):
        yield make


async def agree(nodes: list[Node], seconds: float) -> None:
    """Wait until the given nodes are settled with the same map and every shard is held by exactly one of them."""
    deadline = asyncio.get_running_loop().time() + seconds
    names = {node.name for node in nodes}
    while True:
        held = Counter(shard for node in nodes for shard in node.placement.held)
        if (
            all(node.placement.settled and set(node.placement.nodes) == names for node in nodes)
            and len(held) == SHARDS
            and set(held.values()) == {1}
        ):
            break
        assert asyncio.get_running_loop().time() < deadline, [(node.name, len(node.placement.held)) for node in nodes]
        await asyncio.sleep(0.01)
    for shard in range(SHARDS):
        owners = {node.placement.owner(shard) for node in nodes}
        assert len(owners) == 1
        assert [node.name for node in nodes if node.placement.owns(shard)] == list(owners)


async def test_a_single_node_owns_everything_right_after_start(make_node: MakeNode) -> None:
    node = await make_node("a").start()
    assert node.placement.held == frozenset(range(SHARDS))
    assert node.placement.settled
    assert node.calls == [("acquire", list(range(SHARDS)))]
    assert node.placement.address("a") == "http://a" and node.placement.address("b") is None
    assert {node.placement.owner(shard) for shard in range(SHARDS)} == {"a"}
    assert node.placement.owner(SHARDS) is None


async def test_joining_nodes_take_their_share_within_a_beat_or_two(make_node: MakeNode) -> None:
    nodes = [await make_node("a").start()]
    for name in ("b", "c"):
        nodes.append(await make_node(name).start())
        await agree(nodes, 3)
    load = [len(node.placement.held) for node in nodes]
    assert max(load) <= 25 and min(load) >= 11
    # what was handed over was released before it was acquired elsewhere, once
    for node in nodes[1:]:
        acquired = [shard for kind, shards in node.calls if kind == "acquire" for shard in shards]
        assert len(acquired) == len(set(acquired))
    assert not any(kind == "lose" for node in nodes for kind, _ in node.calls)


async def test_draining_delays_the_hand_over_but_not_the_beats(make_node: MakeNode) -> None:
    first = await make_node("a", ttl=1.0, beat=0.2).start()
    drained = asyncio.Event()
    first.drain = lambda: _wait(drained)
    second = await make_node("b", ttl=1.0, beat=0.2).start()
    await asyncio.sleep(2)  # twice the lease
    assert first.placement.held == frozenset(range(SHARDS)) and not second.placement.held
    assert first.placement.lease_valid and not second.placement.settled
    drained.set()
    await agree([first, second], 3)


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


async def test_a_stopped_node_hands_over_at_once(make_node: MakeNode) -> None:
    a, b = await make_node("a").start(), await make_node("b").start()
    await agree([a, b], 4)
    before = asyncio.get_running_loop().time()
    await b.placement.stop()
    await agree([a], 2)
    assert asyncio.get_running_loop().time() - before < 2
    assert not b.placement.held and b.placement.owner(0) != "b"
    assert [kind for kind, _ in b.calls] == ["acquire", "release"]


async def test_a_dead_nodes_shards_are_taken_within_five_seconds(make_node: MakeNode) -> None:
    a, b = await make_node("a").start(), await make_node("b").start()
    await agree([a, b], 4)
    lost = next(iter(b.placement.held))
    await b.die()
    before = asyncio.get_running_loop().time()
    assert a.placement.owner(lost) == "b"
    await agree([a], 5)
    assert asyncio.get_running_loop().time() - before < 4.5
    assert a.dead == ["b"]


async def test_a_dead_process_leaves_its_node_id_and_its_shards_to_the_next(make_node: MakeNode) -> None:
    a = await make_node("a").start()
    await a.die()
    again = await make_node("a").start()
    assert again.placement.settled and again.placement.held == frozenset(range(SHARDS))


async def test_a_node_cut_from_postgres_gives_up_and_comes_back(make_node_apart: MakeNode, own_services: TestServices) -> None:
    node = await make_node_apart("a", ttl=1.0, beat=0.2).start()
    await asyncio.to_thread(own_services.postgres.stop)
    deadline = asyncio.get_running_loop().time() + 4
    while node.placement.held:
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)
    assert not node.placement.lease_valid and not node.placement.settled
    assert node.placement.owner(5) is None
    await asyncio.to_thread(own_services.postgres.start)
    assert await node.placement.wait_settled(8)
    assert [kind for kind, _ in node.calls] == ["acquire", "lose", "acquire"]


async def test_start_without_postgres_does_not_raise(make_node_apart: MakeNode, own_services: TestServices) -> None:
    node = make_node_apart("a", ttl=1.0, beat=0.2)
    await node.db.start()
    await asyncio.to_thread(own_services.postgres.stop)
    await node.placement.start()
    assert not node.placement.held
    await asyncio.to_thread(own_services.postgres.start)
    assert await node.placement.wait_settled(8)


async def test_works_without_nats(make_node_apart: MakeNode, own_services: TestServices) -> None:
    own_services.nats.stop()
    a = make_node_apart("a", ttl=1.5, beat=0.3)
    b = make_node_apart("b", ttl=1.5, beat=0.3)
    for node in (a, b):
        await node.db.start()
        await node.bus.start()
        await node.placement.start()
    await agree([a, b], 4)


async def test_callbacks_that_fail_do_not_stop_the_placement(make_node: MakeNode) -> None:
    a = make_node("a")

    async def fails() -> None:
        raise RuntimeError("broken drain")

    a.drain = fails
    await a.start()
    b = await make_node("b").start()
    await agree([a, b], 4)


# -- one process per node id --------------------------------------------------------------------------------------------


async def test_a_second_process_under_a_living_node_id_is_refused(make_node: MakeNode) -> None:
    first = await make_node("a").start()
    with pytest.raises(NodeIdTaken, match="node id a belongs to a living process, which serves at http://a"):
        await make_node("a").start()
    assert first.placement.lease_valid and len(first.placement.held) == SHARDS and not first.replaced


async def test_a_process_that_leaves_its_node_id_soon_is_waited_for(make_node: MakeNode) -> None:
    first = await make_node("a").start()
    going = asyncio.Event()
    first.drain = going.wait  # type: ignore[assignment]
    leaving = asyncio.create_task(first.placement.stop(20))
    second = asyncio.create_task(make_node("a").start())
    await asyncio.sleep(2.5)  # its lease was renewed meanwhile
    assert not second.done()
    going.set()
    await leaving
    assert len((await second).placement.held) == SHARDS


async def test_a_process_that_finds_its_node_id_taken_gives_way(make_node: MakeNode) -> None:
    """It was stopped for longer than its lease, and its successor has begun."""
    first = await make_node("a", ttl=1.0, beat=0.2).start()
    task = first.placement._beating
    assert task is not None
    task.cancel()
    second = await make_node("a", ttl=1.0, beat=0.2).start()
    assert not first.placement.lease_valid
    first.placement._beating = first.placement._spawn(first.placement._run(), "placement")
    assert not await first.placement.wait_lease(5)
    (said,) = first.replaced
    assert "belongs to the process at http://a now" in said
    assert not first.placement.held
    await first.placement.stop(1)
    assert second.placement.lease_valid and len(second.placement.held) == SHARDS and not second.replaced


# -- not waiting longer than needed --------------------------------------------------------------------------------------


async def test_the_end_of_a_lease_is_noticed_when_it_comes(make_node: MakeNode) -> None:
    """Not at the next look after it: these nodes look every 2.5 s."""
    first, second = await make_node("a", beat=2.5).start(), await make_node("b", beat=2.5).start()
    await agree([first, second], 10)
    await second.die()
    lease = await first.db.fetchval(
        "SELECT expires_at / 1e6 - extract(epoch FROM clock_timestamp()) FROM nodes WHERE node_id = 'b'"
    )
    await asyncio.sleep(float(lease) + 1)
    assert first.placement.held == frozenset(range(SHARDS)) and first.dead == ["b"]


@pytest.mark.proof
async def test_a_connection_that_hangs_does_not_cost_the_lease(services: TestServices, make_node: MakeNode) -> None:
    node = await make_node("a").start()
    place = Deployment(node.db.dsn, services.nats.url, "")
    directory = Path(tempfile.mkdtemp(prefix="dw-link-"))
    async with Links(place, directory) as links:
        other = await make_node("b", way=links.place.dsn).start()
        await agree([node, other], 10)
        held = other.placement.held
        for _ in range(3):
            links.postgres.lose()
            for _ in range(25):
                await asyncio.sleep(0.1)
                assert other.placement.lease_valid and other.placement.held == held
        assert not other.lapsed and node.dead == []
        links.postgres.stall()
        await asyncio.sleep(5)
        assert len(other.lapsed) == 1 and not other.placement.held
        links.postgres.resume()
        await agree([node, other], 20)
        await other.close()
    shutil.rmtree(directory)
