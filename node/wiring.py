"""The composition root: which parts a node is made of, who is given whom, and the order in which they start."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import NoReturn, cast

from actors.clock import Clock
from actors.cluster.node_id import claim_node_id
from actors.cluster.placement import Placement
from actors.cluster.router import Router
from actors.dialects.sdk04 import Sdk04
from actors.engine import Engine
from actors.errors import Unavailable
from actors.hosting.host import Host
from actors.hosting.schedule_host import ScheduleHost
from actors.maintenance import Maintenance
from actors.publishing.publisher import Publisher
from actors.publishing.republisher import Republisher
from actors.publishing.schedule_publisher import SchedulePublisher
from actors.publishing.stream_repair import StreamRepair
from actors.queue.admission.admission import Admission, reading
from actors.run import ids
from actors.schedule.keys import is_schedule
from actors.upkeep.namespace_removal import NamespaceRemoval, shard_of_name
from actors.upkeep.retention import Retention
from actors.workers.registry import WorkerRegistry
from api.app import create_app
from api.control.workflows.scheduled import ScheduledStarts
from api.http.auth import authenticator
from api.http.namespace_cache import NamespaceCache
from api.http.services import Services
from base.observability.metrics import NO_METRICS, Metrics
from bus.ask import Ask
from bus.broadcast import Broadcast
from bus.connection import Bus
from bus.dispatch import Dispatch
from bus.events import EventStream
from node.assembly import Assembly
from node.config import Config
from node.nats_probe import NatsProbe
from node.schema_watch import SchemaWatch
from node.settings import admission_rules, api_settings, bus_options, engine_rules, query_rules
from store.cluster import deployment
from store.cluster import nodes as leases
from store.commit.group import GroupCommit, ScheduleCommit
from store.commit.write_watch import WriteWatch
from store.connections.outage import Outage
from store.connections.pools import Pools

RUN_CACHE_BYTES = 128 * 1024 * 1024
SETTLE_SECONDS = 5.0
BUSY_COMMITS = 32  # writes that wait: nobody prunes meanwhile


class _NotStarted:
    """Stands in for the engine while the node can not reach its database: every request that needs it is answered 503."""

    def __getattr__(self, _name: str) -> NoReturn:
        raise Unavailable("the node is starting")


class _Step:
    """A start-up step that leaves nothing running."""

    def __init__(self, work: Callable[[], Awaitable[None]], undo: Callable[[], object] = lambda: None) -> None:
        self._work = work
        self._undo = undo

    async def start(self) -> None:
        await self._work()

    async def stop(self) -> None:
        self._undo()


class Parts:
    """The parts of one node. `build_engine` makes those that need the number of shards, which the database knows."""

    def __init__(
        self,
        config: Config,
        dsn: str,
        address: str,
        clock: Clock,
        restart_nats: Callable[[], object] | None,
        metrics: Metrics,
    ) -> None:
        self.config = config
        self.clock = clock
        self.node_id = config.server.node_id
        self._address = address
        database = config.database
        self.pools = Pools(
            dsn,
            pool_size=database.pool_size,
            search_pool_size=database.search_pool_size,
            search_queue=database.search_queue,
            search_seconds=database.search_timeout_seconds,
        )
        self.db = self.pools.reads
        self.bus = Bus(bus_options(config), self.node_id)
        self.incarnation = self.bus.process
        self.replaced: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.broadcast = Broadcast(self.bus)
        self.ask = Ask(self.bus)
        self.dispatch = Dispatch(self.bus)
        self.outage = Outage()
        self.committer = GroupCommit(dsn, outage=self.outage, metrics=metrics)
        self.schedule_committer = ScheduleCommit(dsn, outage=self.outage, metrics=metrics)
        self.writes = WriteWatch(self.pools.probes, self.committer)
        self.workers = WorkerRegistry(self.db, config.polling.worker_stale_after_seconds, self.broadcast, clock)
        self.publisher = Publisher(
            self.db, self.bus.subjects, lambda run_key: self.placement.owns(ids.shard_in(run_key)), metrics
        )
        self.schedule_publisher = SchedulePublisher(self.db, self.bus.subjects, self._owns)
        self.events = EventStream(
            self.bus,
            on_acked=self._acked,
            on_dropped=self._dropped,
            on_missing=self._first_sequence,
            on_stream=self._check_stream,
        )
        self.publisher.attach(self.events)
        self.schedule_publisher.attach(self.events)
        self.republisher = Republisher(
            self.db,
            self.publisher,
            self.schedule_publisher,
            self.events,
            lambda: self.placement.held,
            config.nats.republish_seconds,
            tell=lambda: self.broadcast.broadcast("republish", b""),
        )
        self.broadcast.on_broadcast("republish", lambda _node, _body: self.republisher.told())
        self.repair = StreamRepair(self.db, self.bus, self.events, restart_nats)
        settings_of_api = api_settings(config)
        self.services = Services(
            settings=settings_of_api,
            db=self.db,
            searches=self.pools.searches,
            probes=self.pools.probes,
            upkeep=self.pools.upkeep,
            engine=cast(Engine, _NotStarted()),
            auth=authenticator(settings_of_api.auth),
            namespaces=NamespaceCache(self.db),
            workers=self.workers,
            cache_probe=NatsProbe(self.bus),
            writes=self.writes,
            unfit="the schema has not been looked at yet",
            clock=clock,
            events_trouble=lambda: self.events.standstill.reason,
            metrics=metrics,
        )
        self.removal = NamespaceRemoval(
            self.pools.upkeep,
            self.broadcast,
            clock.now,
            forget=self._forget_namespace,
            hosts=lambda name: self.engine is not None and shard_of_name(name, self.engine.runs.shards) in self.placement.held,
        )
        self.services.removal = self.removal
        self.engine: Engine | None = None
        self.placement: Placement
        self.host: Host
        self.schedules: ScheduleHost
        self.maintenance: Maintenance
        self.retention: Retention

    async def claim_node_id(self) -> None:
        """Before anything is done under it. Raises `NodeIdTaken`."""
        await claim_node_id(self.db, self.node_id, self.incarnation, self._address)

    def _on_replaced(self, text: str) -> None:
        if not self.replaced.done():
            self.replaced.set_result(text)

    async def build_engine(self) -> None:
        """Make the actors' parts. Fails while the database has not been bootstrapped."""
        if self.engine is not None:
            return
        # No run may be decided before the node knows what time it is.
        sent = self.clock.ticks()
        self.clock.observe(await leases.clock(self.db), sent)
        shards = await deployment.shard_count(self.db)
        self.placement = Placement(
            self.pools.leases,
            self.node_id,
            self.incarnation,
            self._address,
            shards,
            broadcast=self.broadcast,
            on_acquire=self._acquired,
            on_release=self._released,
            on_dead=self.ask.fail_pending,
            on_seen=self.ask.know,
            on_renewed=self._renewed,
            on_lapsed=self._lapsed,
            on_replaced=self._on_replaced,
            clock=self.clock,
        )
        self.workers.rollouts.lease_left = lambda: self.placement.lease_left
        self.ask.speak_while(lambda: self.placement.lease_valid)
        self.host = Host(
            self.db,
            self.committer,
            self.publisher,
            engine_rules(self.config, shards),
            Sdk04(),
            shards,
            RUN_CACHE_BYTES,
            self.clock,
            self._admission(),
        )
        router = Router(self.node_id, self.placement, self.ask, self.host, shards)
        self.schedules = ScheduleHost(self.db, self.schedule_committer, self.schedule_publisher, shards, self.clock)
        engine = Engine(
            self.db,
            self.host,
            router,
            self.ask,
            self.dispatch,
            self.workers,
            query_rules(self.config),
            self.schedules,
            ScheduledStarts(self.services),
        )
        self.maintenance = Maintenance(
            self.db,
            self.host,
            engine,
            self.publisher,
            self.schedule_publisher,
            lambda: self.placement.held,
            self.republisher,
            bus_up=lambda: self.bus.connected,
            dispatch_up=lambda: self.bus.connected and self.dispatch.receiving,
            all_heard=lambda: self.ask.all_heard,
        )
        self.retention = Retention(
            self.pools.upkeep,
            lambda: self.placement.held,
            self.host.now,
            busy=lambda: self.committer.queued >= BUSY_COMMITS,
        )
        self.engine = engine

    def _admission(self) -> Admission | None:
        rules = admission_rules(self.config)
        if rules.none:
            return None

        def tell(news: bytes) -> None:
            self.broadcast.broadcast("permits", news)

        admission = Admission(rules, reading(self.db), self.clock.now, tell)
        self.broadcast.on_broadcast("permits", lambda _node, news: admission.hear(news))
        return admission

    def stop_actors(self) -> None:
        """No deadline fires any more."""
        self.host.stop()
        self.schedules.stop()

    async def open(self) -> None:
        """Let requests reach the engine, once it is known which shards are hosted here."""
        assert self.engine is not None
        await self.placement.wait_settled(SETTLE_SECONDS)
        self.services.engine = self.engine

    async def begin_drain(self) -> None:
        """Not ready any more; held polls are answered empty."""
        self.services.draining = True
        if self.engine is not None:
            await self.engine.drain()

    async def _acquired(self, shards: list[int]) -> None:
        await self.maintenance.acquired(shards)

    async def _released(self, shards: list[int], drain: bool) -> None:
        assert self.engine is not None
        self.republisher.released(shards)
        await self.engine.release(shards, drain)
        if not drain:
            # Another node publishes them by now; sent from here after a long pause they would come twice.
            gone = frozenset(shards)
            self.events.discard_where(lambda run_id: ids.shard_of_id(run_id) in gone)

    async def _first_sequence(self) -> int | None:
        return await self.republisher.first_sequence()

    async def _check_stream(self) -> bool:
        return await self.republisher.check()

    def _forget_namespace(self, name: str) -> None:
        self.services.forget_namespace(name)
        if self.engine is not None:
            self.host.forget_namespace(name)
            self.schedules.forget_namespace(name)

    def _lapsed(self, text: str) -> None:
        self.outage.began("leases", text)
        # Others take over now: whoever waits here for the database should hear that, and nobody begin to.
        self.committer.give_up()
        self.schedule_committer.give_up()
        self.pools.give_up()

    def _renewed(self) -> None:
        self.outage.ended("leases")
        self.pools.trust()
        self.ask.say_hello()

    def _acked(self, run_id: str, sequence: int) -> None:
        if is_schedule(run_id):
            self.schedules.note_acked(run_id, sequence)
        else:
            self.host.note_acked(run_id, sequence)

    def _owns(self, shard: int) -> bool:
        return self.placement.owns(shard)

    def _dropped(self, run_id: str) -> None:
        (self.schedule_publisher if is_schedule(run_id) else self.publisher).dropped(run_id)


def assemble(
    config: Config,
    address: str,
    clock: Clock | None = None,
    restart_nats: Callable[[], object] | None = None,
    metrics: Metrics = NO_METRICS,
) -> Assembly:
    """A node on the database and the NATS of `config`, known to the other nodes as serving at `address`.

    `clock`: what it goes by, made from this machine's clocks by default. `restart_nats`: for a NATS of its own, see
    `actors.publishing.stream_repair`. `metrics`: where measures go.
    """
    dsn = config.database.dsn
    if dsn is None:
        raise ValueError("a node needs a database")
    return assembly_of(Parts(config, dsn, address, clock or Clock(config.server.clock_skew_seconds), restart_nats, metrics))


def assembly_of(parts: Parts) -> Assembly:
    """The parts of a node in the order in which they start."""
    return Assembly(
        app=create_app(parts.services),
        services=(
            ("database", lambda: parts.pools),
            ("schema", lambda: SchemaWatch(parts.services)),
            ("node id", lambda: _Step(parts.claim_node_id)),
            ("bus", lambda: parts.bus),
            ("engine", lambda: _Step(parts.build_engine, parts.stop_actors)),
            ("commits", lambda: parts.committer),
            ("schedule commits", lambda: parts.schedule_committer),
            ("write watch", lambda: parts.writes),
            # before the event stream, so that what is acknowledged while that drains is still noted
            ("maintenance", lambda: parts.maintenance),
            ("retention", lambda: parts.retention),
            ("namespace removal", lambda: parts.removal),
            ("events", lambda: parts.events),
            ("stream repair", lambda: parts.repair),
            ("dispatch", lambda: parts.dispatch),
            ("workers", lambda: parts.workers),
            ("placement", lambda: parts.placement),
            # after the lease: what is read without one does not count
            ("rollouts", lambda: parts.workers.rollouts),
            ("requests", lambda: _Step(parts.open)),
        ),
        begin_drain=parts.begin_drain,
        replaced=parts.replaced,
    )
