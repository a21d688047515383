"""Which node hosts which shard: leases in Postgres, spread over the live nodes (architecture, Shards and placement).

Once a second each node renews its lease and reads who lives and who holds what, in one statement. Every node computes
from the live nodes the same wanted map; it acquires free shards that are wanted here and releases those wanted elsewhere.
Nothing here has to be exact: runs are fenced by their version (rule 1), a wrong map only costs a detour. But a node id belongs
to one living process: who was frozen and finds its id with another one is told (`on_replaced`) and must do nothing any more.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable, Sequence

from actors.clock import Clock
from actors.cluster.heartbeat import Heartbeat
from actors.cluster.node_id import LEASE_SECONDS
from actors.cluster.spread import wanted_owners
from base.observability.actions import said
from base.service import Service
from bus.broadcast import Broadcast
from store.cluster import nodes as leases
from store.connections.pool import Database
from store.errors import StoreError, WritesRefused

_log = logging.getLogger("dw.actors")

TOPIC = "placement"
_LEAST_PAUSE_SECONDS = 0.02
_HASTE = 0.25  # of the pause between two looks, while there is no lease
_DRAIN_SECONDS = 5.0

Acquired = Callable[[list[int]], Awaitable[None]]
Released = Callable[[list[int], bool], Awaitable[None]]


def _alive_seconds() -> float:
    """A clock that goes on while this process is stopped or its machine sleeps, and that no event loop caches."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


async def _no_acquire(_shards: list[int]) -> None:
    pass


def _no_word(_: str) -> None:
    pass


async def _no_release(_shards: list[int], _drain: bool) -> None:
    pass


class Placement(Service):
    """This node's view of who hosts what, and its share of it.

    `on_acquire(shards)` is awaited after shards became ours (`owns` says yes already). `on_release(shards, drain)` is
    awaited before shards are handed over (`drain` True: finish what is in the mailboxes; they are ours until it returns,
    so it must end soon), or after they were lost (`drain` False: drop everything at once). The calls never overlap for
    one shard. Plain functions: `on_dead(node id)` is called for a node whose lease ended or that left (`Ask.fail_pending`),
    `on_seen(node id, incarnation)` for every live node at every look, `on_renewed()` when the lease runs (again),
    `on_lapsed(text)` when it ended because Postgres did not answer, `on_replaced(text)` when another process has our node id.
    """

    def __init__(
        self,
        db: Database,
        node_id: str,
        incarnation: str,
        address: str,
        shards: int,
        *,
        ttl_seconds: float = LEASE_SECONDS,
        beat_seconds: float = 1.0,
        broadcast: Broadcast | None = None,
        on_acquire: Acquired = _no_acquire,
        on_release: Released = _no_release,
        on_dead: Callable[[str], None] = _no_word,
        on_seen: Callable[[str, str], object] = lambda _node, _incarnation: None,
        on_renewed: Callable[[], None] = lambda: None,
        on_lapsed: Callable[[str], None] = _no_word,
        on_replaced: Callable[[str], None] = _no_word,
        clock: Clock | None = None,
    ) -> None:
        """`clock` is told what the database's says, at each beat. `ttl_seconds`: how long the others wait for a silent node.

        `broadcast`: changes are told and heard of at once; without it (or with NATS away) at the next beat.
        """
        super().__init__()
        self.node_id = node_id
        self.incarnation = incarnation
        self.shards = shards
        self._db = db
        self._ttl = ttl_seconds
        self._beat = beat_seconds
        self._broadcast = broadcast
        self._on_acquire = on_acquire
        self._on_release = on_release
        self._on_dead = on_dead
        self._on_seen = on_seen
        self._on_renewed = on_renewed
        self._on_lapsed = on_lapsed
        self._on_replaced = on_replaced
        self._replaced = False
        self._clock = clock or Clock()
        self._heartbeat = Heartbeat(db, node_id, incarnation, address, self._clock, ttl_seconds, beat_seconds)
        self._addresses: dict[str, str] = {}  # live nodes
        self._owners: dict[int, str] = {}  # by the last look; holders may be dead
        self._held: set[int] = set()  # ours, handed to on_acquire or about to be
        self._moving: set[int] = set()  # inside on_acquire or on_release
        self._wanted: dict[int, str] = {}
        self._wanted_for: tuple[str, ...] | None = None
        self._lease_until = -math.inf  # by `_alive_seconds`, counted from before the beat that renewed it
        self._next_end = math.inf  # loop time when the first lease of the others ends, unless it is renewed
        self._renewed = asyncio.Event()
        self._lapsed = False  # told so, not yet renewed
        self._refused = False  # the same while Postgres takes no writes
        self._blind = False  # Postgres did not answer the last look
        self._draining = False
        self._releases = 0
        self._beating: asyncio.Task[None] | None = None
        self._moves: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        if broadcast is not None:
            broadcast.on_broadcast(TOPIC, lambda _sender, _body: self._wake.set())

    # -- what it knows ------------------------------------------------------------------------------------------------------

    def owner(self, shard: int) -> str | None:
        """The live node that hosts a shard, by the last look; None when nobody does."""
        holder = self._owners.get(shard)
        return holder if holder in self._addresses else None

    def owns(self, shard: int) -> bool:
        """True when this node hosts the shard."""
        return shard in self._held

    @property
    def held(self) -> frozenset[int]:
        """The shards this node hosts."""
        return frozenset(self._held)

    @property
    def nodes(self) -> list[str]:
        """The live nodes by the last look, this one included."""
        return sorted(self._addresses)

    def address(self, node_id: str) -> str | None:
        """Where a live node serves HTTP; None for one that is not alive."""
        return self._addresses.get(node_id)

    @property
    def lease_valid(self) -> bool:
        """False when this node could not renew its lease in time, or was stopped meanwhile: it hosts nothing then."""
        return _alive_seconds() < self._lease_until

    @property
    def lease_left(self) -> float:
        """For how many seconds the lease runs, if it is not renewed; 0 or less when it has ended."""
        return self._lease_until - _alive_seconds()

    async def wait_lease(self, timeout_seconds: float) -> bool:
        """Wait until the lease runs; False after the time, and at once while Postgres is known not to answer."""
        if self.lease_valid or self._blind:
            return self.lease_valid
        self._renewed.clear()
        self._wake.set()
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._renewed.wait()
        except TimeoutError:
            pass
        return self.lease_valid

    @property
    def settled(self) -> bool:
        """True when every shard is hosted by the live node that should host it, by the last look, and nothing is moving."""
        return (
            self.lease_valid
            and not self._moving
            and len(self._wanted) == self.shards
            and all(self._owners.get(shard) == node for shard, node in self._wanted.items())
            and all(shard in self._held for shard, node in self._wanted.items() if node == self.node_id)
        )

    async def wait_settled(self, timeout_seconds: float) -> bool:
        """Wait until `settled`; False after the time."""
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        while not self.settled:
            if asyncio.get_running_loop().time() >= deadline:
                return False
            await asyncio.sleep(0.01)
        return True

    # -- life ---------------------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        """Join the cluster.

        When it returns, the free shards wanted here are ours (all of them for a single node) and were given to
        `on_acquire`. Does not raise when Postgres is away: joining goes on in the background (`wait_settled`).
        """
        self._draining = False
        await self._look()
        while self._moves:
            await asyncio.gather(*self._moves)
        self._beating = self._spawn(self._run(), name="placement")

    async def drain(self, drain_seconds: float = _DRAIN_SECONDS) -> None:
        """Release everything, and acquire nothing any more."""
        self._draining = True
        try:
            async with asyncio.timeout(drain_seconds):
                while self._moves or self._held:  # the loop goes on: draining may take longer than the lease
                    given = sorted(self._held - self._moving)
                    if given:
                        self._move(given, self._release)
                    await asyncio.wait(self._moves, return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            extra = said("shards.undrained", seconds=drain_seconds)
            _log.warning("shards were not drained within %s s", drain_seconds, extra=extra)

    async def stop(self, drain_seconds: float = _DRAIN_SECONDS) -> None:
        """Release everything and leave. Never raises; without Postgres the others wait for the lease to end."""
        if self.running:
            await self.drain(drain_seconds)
        await super().stop()

    async def _stopped(self) -> None:
        self._held.clear()
        self._owners = {shard: node for shard, node in self._owners.items() if node != self.node_id}
        self._lease_until = -math.inf
        try:
            async with asyncio.timeout(self._ttl):
                await leases.leave(self._db, self.node_id, self.incarnation)
        except (StoreError, TimeoutError) as error:
            _log.debug("could not leave: %s", error or type(error).__name__, extra=said("shards.leave_failed"))
        self._tell()

    async def _run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._pause()):
                    await self._wake.wait()
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(_LEAST_PAUSE_SECONDS)  # a burst of announcements is one look
            self._wake.clear()
            await self._look()

    def _pause(self) -> float:
        """Seconds until the next look: sooner when another node's lease is about to end, or ours has."""
        if not self.lease_valid:
            return self._beat * _HASTE
        ends = self._next_end - asyncio.get_running_loop().time()
        return self._beat if ends > self._beat else max(ends, _LEAST_PAUSE_SECONDS)

    # -- one look -----------------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        now = _alive_seconds()
        releases = self._releases
        # Not longer than the lease still runs: a hung Postgres must not keep us believing in it.
        patience = min(self._ttl, max(self._lease_until - now, self._beat))
        try:
            seen, sent = await self._heartbeat.renew(patience, self._draining)
        except (StoreError, TimeoutError) as error:
            self._blind = True
            if not self.lease_valid:
                self._tell_lapsed(error)
                self._lose(set(self._held))
            return
        self._blind = False
        if all(node.node_id != self.node_id for node in seen.nodes):
            self._give_way(seen.holder)
            return
        lapsed = self._lapsed or not self.lease_valid
        self._lapsed = self._refused = False
        self._lease_until = now + self._ttl
        self._clock.observe(seen.clock, sent)
        if lapsed:
            self._on_renewed()
        self._renewed.set()
        self._next_end = asyncio.get_running_loop().time() + self._first_end(seen.nodes)
        if releases != self._releases:
            self._wake.set()  # what was seen may be older than what was released meanwhile
            return
        self._see(seen)
        try:
            async with asyncio.timeout(self._ttl / 2):  # the lease runs on meanwhile
                await self._acquire_free()
        except (StoreError, TimeoutError) as error:
            _log.debug("could not acquire shards: %s", error or type(error).__name__, extra=said("shards.acquire_failed"))
        self._release_unwanted()

    def _tell_lapsed(self, error: Exception) -> None:
        """Once each: that the lease ended, and that Postgres is away (when it only takes no writes, reads go on)."""
        text = f"the lease of this node ended, its shards are given up: {str(error) or 'no answer'}"
        if not isinstance(error, WritesRefused):
            if not self._lapsed:
                self._on_lapsed(text)
            self._lapsed = True
        elif not self._refused and not self._lapsed:
            _log.warning("%s", text, extra=said("node.lapsed"))
            self._refused = True

    def _first_end(self, nodes: Sequence[leases.Node]) -> float:
        """Seconds until the first lease of the other nodes ends, by the database's clock."""
        ours = next(node.expires_at for node in nodes if node.node_id == self.node_id)
        others = [node.expires_at for node in nodes if node.node_id != self.node_id]
        return (min(others) - ours) / 1e6 + self._ttl if others else math.inf

    def _give_way(self, holder: leases.Node | None) -> None:
        """The node id is another process's now: nothing is hosted here any more."""
        self._lease_until = -math.inf
        self._lose(set(self._held))
        if holder is not None and not self._replaced:
            self._replaced = True
            self._on_replaced(f"node id {self.node_id} belongs to the process at {holder.address} now, this one has to end")

    def _see(self, seen: leases.Beat) -> None:
        before = set(self._addresses)
        self._addresses = {node.node_id: node.address for node in seen.nodes}
        for node in seen.nodes:
            self._on_seen(node.node_id, node.incarnation)
        self._owners = {shard: node for shard, node in seen.owners.items() if node is not None and shard < self.shards}
        staying = tuple(node.node_id for node in seen.nodes if not node.draining)
        if staying != self._wanted_for:
            self._wanted_for = staying
            self._wanted = wanted_owners(staying, self.shards)
        for node_id in before - set(self._addresses) - {self.node_id}:
            _log.warning("node %s is gone", node_id, extra=said("node.gone", peer=node_id))
            self._on_dead(node_id)
        # Others may have thought us dead and taken over; a shard inside a move is settled by the look after it.
        self._lose({shard for shard in self._held if self._owners.get(shard) != self.node_id})

    async def _acquire_free(self) -> None:
        if self._draining:
            return
        mine = [shard for shard, node in self._owners.items() if node == self.node_id]
        free = [
            shard
            for shard, node in self._wanted.items()
            if node == self.node_id and shard not in self._moving and self._owners.get(shard) not in self._addresses
        ]
        if free:
            mine += await leases.acquire(self._db, self.node_id, self.incarnation, free)
        new = sorted({shard for shard in mine if shard not in self._held and shard not in self._moving})
        if not new:
            return
        self._owners.update(dict.fromkeys(new, self.node_id))
        self._held.update(new)
        self._move(new, self._acquired)
        self._tell()

    async def _acquired(self, shards: list[int]) -> None:
        try:
            await self._on_acquire(shards)
        except Exception:
            _log.exception("on_acquire failed for shards %s", shards, extra=said("shards.acquired_fault", shards=shards))

    def _release_unwanted(self) -> None:
        given = sorted(
            shard
            for shard in self._held - self._moving
            if self._wanted.get(shard, self.node_id) != self.node_id and self._wanted[shard] in self._addresses
        )
        if given:
            self._move(given, self._release)

    async def _release(self, shards: list[int]) -> None:
        await self._call_release(shards, drain=True)
        self._held.difference_update(shards)
        for shard in shards:
            if self._owners.get(shard) == self.node_id:
                del self._owners[shard]
        try:
            async with asyncio.timeout(self._ttl):
                await leases.release(self._db, self.node_id, self.incarnation, shards)
        except (StoreError, TimeoutError) as error:
            # The next look finds them still ours in the table, takes them up again, and tries once more.
            _log.debug("could not release shards: %s", error or type(error).__name__, extra=said("shards.release_failed"))
        self._releases += 1
        self._tell()

    def _lose(self, shards: set[int]) -> None:
        lost = sorted(shards - self._moving)
        if lost:
            self._held.difference_update(lost)
            for shard in lost:
                if self._owners.get(shard) == self.node_id:
                    del self._owners[shard]
            self._move(lost, self._drop)

    async def _drop(self, shards: list[int]) -> None:
        await self._call_release(shards, drain=False)

    async def _call_release(self, shards: list[int], *, drain: bool) -> None:
        try:
            await self._on_release(shards, drain)
        except Exception:
            _log.exception("on_release failed for shards %s", shards, extra=said("shards.released_fault", shards=shards))

    def _move(self, shards: list[int], work: Callable[[list[int]], Awaitable[None]]) -> None:
        # Beside the loop: draining must not delay the next beat.
        self._moving.update(shards)

        async def run() -> None:
            try:
                await work(shards)
            finally:
                self._moving.difference_update(shards)
                self._wake.set()

        task = self._spawn(run(), name="placement-move")
        self._moves.add(task)
        task.add_done_callback(self._moves.discard)

    def _tell(self) -> None:
        if self._broadcast is not None:
            self._broadcast.broadcast(TOPIC, b"")
