"""The pools of one node: each kind of work has connections of its own, so that none waits for another's.

A node opens `pool_size` (reads) + `search_pool_size` + `LEASE_CONNECTIONS` + `PROBE_CONNECTIONS` + `UPKEEP_CONNECTIONS`
connections at most, and two for commits (`store.commit.group`); those not used for five minutes are closed.
"""

from __future__ import annotations

import asyncio

from store.connections.pool import Database

LEASE_CONNECTIONS = 2
PROBE_CONNECTIONS = 2
UPKEEP_CONNECTIONS = 2

_LEASE_SECONDS = 2.5  # less than a lease lasts: a heartbeat that hangs makes room for the next
_UPKEEP_SECONDS = 30.0
_PROBE_SECONDS = 1.5  # health must be answered within two seconds (configuration-and-security 8.1)


# What upkeep did and a crash of the database takes back, it does again: it need not wait for a disk that commits wait for.
UPKEEP_SESSION = {"application_name": "durable-workflow-upkeep", "synchronous_commit": "off"}

# One search, one process of the database; planned for its values, which decide between a rare match and the newest runs.
SEARCH_SESSION = {
    "application_name": "durable-workflow-search",
    "max_parallel_workers_per_gather": "0",
    "plan_cache_mode": "force_custom_plan",
}


class Pools:
    """The databases of a node, all the same Postgres.

    `reads`: single runs, a few rows by index, small writes. `searches`: whatever may read many rows; `search_queue` of them
    may wait for as long as one may run, `search_seconds`. `leases`: heartbeats of the node. `probes`: health and readiness.
    `upkeep`: retention, deletion and looks for what is overdue, which nobody waits for.
    """

    def __init__(self, dsn: str, *, pool_size: int, search_pool_size: int, search_queue: int, search_seconds: float) -> None:
        self.reads = Database(dsn, size=pool_size)
        self.searches = Database(
            dsn,
            size=search_pool_size,
            timeout_seconds=search_seconds,
            queue=search_queue,
            settings=SEARCH_SESSION,
        )
        self.leases = Database(
            dsn,
            size=LEASE_CONNECTIONS,
            timeout_seconds=_LEASE_SECONDS,
            settings={"application_name": "durable-workflow-lease"},
        )
        self.probes = Database(
            dsn,
            size=PROBE_CONNECTIONS,
            timeout_seconds=_PROBE_SECONDS,
            settings={"application_name": "durable-workflow-probe"},
        )
        self.upkeep = Database(dsn, size=UPKEEP_CONNECTIONS, timeout_seconds=_UPKEEP_SECONDS, settings=UPKEEP_SESSION)
        self._all = (self.reads, self.searches, self.leases, self.probes, self.upkeep)

    async def start(self) -> None:
        """Open the first connection of each. May be called again after it failed with `StoreUnavailable`."""
        for database in self._all:
            await database.start()

    def give_up(self) -> None:
        """The database is known not to answer (`Database.give_up`). Heartbeats and probes go on trying."""
        self.reads.give_up()
        self.searches.give_up()
        self.upkeep.give_up()

    def trust(self) -> None:
        """It answers again."""
        self.reads.trust()
        self.searches.trust()
        self.upkeep.trust()

    async def stop(self) -> None:
        """Close all connections; statements still in flight after two seconds are cut off."""
        await asyncio.gather(*[database.stop() for database in self._all])
