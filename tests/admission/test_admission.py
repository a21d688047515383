"""Gates of two nodes over one table: who waits is woken by a commit, by news, by a look, by the minute (operations 2.4)."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable

import pytest

from actors.errors import Unavailable
from actors.queue.admission import scopes
from actors.queue.admission.admission import Admission
from actors.queue.admission.caps import AdmissionRules, KindCaps
from actors.queue.admission.gate import Gate
from actors.queue.poll import QueueName
from actors.run.times import SECOND, Micros
from actors.run.values import Permit
from tests.cluster.asking import soon

START = 29_616_666 * scopes.MINUTE + 10 * SECOND
A, B = QueueName("default", "a", "workflow"), QueueName("default", "b", "workflow")


class Table:
    """The rows, and the nodes that read them. `deaf`: news are lost."""

    def __init__(self, caps: KindCaps) -> None:
        self.rules = AdmissionRules(caps)
        self.rows: set[Permit] = set()
        self.nodes: list[Admission] = []
        self.now = START
        self.reads = 0
        self.told = 0
        self.away = False
        self.deaf = False

    def node(self) -> Admission:
        def tell(news: bytes) -> None:
            self.told += 1
            for other in self.nodes:
                if other is not made and not self.deaf:
                    other.hear(news)

        made = Admission(self.rules, self._read, lambda: Micros(self.now), tell, random.Random(len(self.nodes)))
        self.nodes.append(made)
        return made

    async def _read(self, names: list[str]) -> dict[str, list[int]]:
        self.reads += 1
        if self.away:
            raise Unavailable("away")
        found = {name: [row.number for row in self.rows if row.scope == name] for name in names}
        await asyncio.sleep(0.002)
        return found


class Queue:
    """A queue with tasks and polls without end: it leases whenever it may."""

    def __init__(self, table: Table, node: Admission, name: QueueName, wants: int = 10_000) -> None:
        self.table = table
        self.node = node
        self.leases: list[tuple[Permit, ...]] = []
        self.wants = wants
        self.tried = 0
        gate = node.gate(name, self.go)
        assert gate is not None
        self.gate: Gate = gate

    def go(self) -> None:
        while self.wants and self.gate.open:
            permits = self.gate.take()
            self.tried += 1
            taken = [permit for permit in permits if permit in self.table.rows]
            if taken:
                self.gate.lost(permits, taken)
                continue
            self.table.rows.update(permits)
            self.gate.granted(permits)
            self.leases.append(permits)
            self.wants -= 1
        if self.wants:
            self.gate.wait()

    def end(self) -> None:
        """A lease ends by a commit of this node."""
        freed = [permit for permit in self.leases.pop(0) if permit.ends]
        self.table.rows.difference_update(freed)
        self.node.freed(freed)


Make = Callable[..., Table]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Table] = []

    def table(**caps: int) -> Table:
        made.append(Table(KindCaps(**caps)))
        return made[-1]

    yield table
    for each in made:
        for node in each.nodes:
            node.stop()


async def test_a_queue_without_caps_has_no_gate(make: Make) -> None:
    node = make(queue_leases=1).node()
    assert node.gate(QueueName("default", "a", "activity"), lambda: None) is None
    assert node.gate(QueueName("default", "a", "query"), lambda: None) is None


async def test_a_freed_place_is_leased_at_once_on_its_node(make: Make) -> None:
    table = make(queue_leases=3)
    queue = Queue(table, table.node(), A)
    assert not queue.gate.open, "before the rows were read"
    queue.go()
    await soon(lambda: len(queue.leases) == 3)
    tried, reads = queue.tried, table.reads
    queue.end()
    assert (len(queue.leases), queue.tried, table.reads) == (3, tried + 1, reads)


async def test_queues_that_share_a_scope_take_turns(make: Make) -> None:
    table = make(namespace_leases=1)
    node = table.node()
    first, second = Queue(table, node, A), Queue(table, node, B)
    first.go()
    second.go()
    await soon(lambda: len(first.leases) + len(second.leases) == 1)
    order = []
    for _ in range(6):
        holder = first if first.leases else second
        order.append(holder is first)
        holder.end()
    assert order in ([True, False] * 3, [False, True] * 3)


async def test_other_nodes_hear_what_is_freed_as_long_as_they_wait(make: Make) -> None:
    table = make(queue_leases=2)
    host, other = table.node(), table.node()
    queue = Queue(table, host, A)
    queue.go()
    await soon(lambda: len(queue.leases) == 2)
    await asyncio.sleep(0.01)  # the other one hears that it waits
    reads = table.reads
    freed = [permit for permit in queue.leases.pop(0) if permit.ends]
    table.rows.difference_update(freed)
    other.freed(freed)  # its commit: the run is hosted there
    await soon(lambda: len(queue.leases) == 2, 0.2)
    assert table.reads <= reads + 1


async def test_nothing_is_told_where_nobody_waits(make: Make) -> None:
    table = make(queue_leases=50, namespace_leases=50)
    node = table.node()
    table.node()
    queue = Queue(table, node, A, wants=20)
    queue.go()
    await soon(lambda: len(queue.leases) == 20)
    await asyncio.sleep(0.02)  # while the rows were not read it waited
    table.told = 0
    for _ in range(20):
        queue.end()
    await asyncio.sleep(0.02)
    assert table.told == 0


async def test_lost_news_cost_a_look(make: Make) -> None:
    table = make(queue_leases=1)
    table.deaf = True
    before, other = Queue(table, table.node(), A, wants=1), table.node()
    before.go()
    await soon(lambda: len(before.leases) == 1)
    queue = Queue(table, table.node(), A)
    queue.go()
    await asyncio.sleep(0.05)
    assert not queue.leases
    queue.leases = before.leases
    freed = [permit for permit in queue.leases.pop() if permit.ends]
    table.rows.difference_update(freed)
    other.freed(freed)
    await soon(lambda: len(queue.leases) == 1)


async def test_the_next_minute_has_a_budget_of_its_own(make: Make) -> None:
    table = make(queue_dispatches=3)
    node = table.node()
    queue = Queue(table, node, A)
    table.now = START + 49 * SECOND + 900_000
    queue.go()
    await soon(lambda: len(queue.leases) == 3)
    reads = table.reads
    await asyncio.sleep(0.05)
    assert table.reads == reads, "what is spent stays spent, there is nothing to look for"
    table.now += SECOND
    await soon(lambda: len(queue.leases) == 6)
    assert len({permit.scope for lease in queue.leases for permit in lease}) == 2
    assert len(node._shelf) == 1, "the books of past minutes are closed for good"


async def test_two_nodes_share_a_scope_without_losing_a_place(make: Make) -> None:
    table = make(queue_leases=6, namespace_leases=4)
    queues = [Queue(table, table.node(), name, wants=60) for name in (A, B)]
    for queue in queues:
        queue.go()
    chance = random.Random(3)
    while any(queue.wants for queue in queues):
        await asyncio.sleep(0.005)
        for queue in queues:
            if queue.leases and chance.random() < 0.5:
                queue.end()
        assert sum(permit.scope.startswith("ln") for permit in table.rows) <= 4
    tried = sum(queue.tried for queue in queues)
    assert tried < 2 * 120, f"{tried} claims for 120 leases"


async def test_queues_that_are_told_different_caps_of_one_scope(make: Make) -> None:
    table = make()
    overrides = {"b": {"workflow_tasks": {"max_active_leases_per_namespace": 5}}}
    table.rules = AdmissionRules(KindCaps(namespace_leases=2), None, overrides)
    node = table.node()
    small, large = Queue(table, node, A), Queue(table, node, B)
    large.go()
    small.go()
    await soon(lambda: len(large.leases) == 5)
    await asyncio.sleep(0.02)
    assert not small.leases, "five are more than two"
    large.wants = 0
    for count in (4, 3, 2):
        large.end()
        assert (len(large.leases), len(small.leases)) == (count, 0)
    large.end()
    await soon(lambda: len(small.leases) == 1)
    assert len(large.leases) == 1
    assert large.tried + small.tried < 12


async def test_while_the_store_is_away_nothing_is_leased_and_then_it_goes_on(make: Make) -> None:
    table = make(queue_leases=1)
    table.away = True
    queue = Queue(table, table.node(), A)
    queue.go()
    await asyncio.sleep(0.05)
    assert not queue.leases and table.reads == 1
    table.away = False
    await soon(lambda: len(queue.leases) == 1)


async def test_news_of_another_version_are_passed_over(make: Make) -> None:
    node = make(queue_leases=1).node()
    for news in (b"", b"\xc1", b"\x93\x01\x02\x03", b"\x81\xa1a\x01"):
        node.hear(news)
