"""Everything endpoints talk to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from actors.clock import Clock
from api.http.attribute_types import AttributeTypes
from base.observability.metrics import NO_METRICS, Metrics

if TYPE_CHECKING:
    from actors.engine import Engine
    from actors.upkeep.namespace_removal import NamespaceRemoval
    from actors.workers.registry import WorkerRegistry
    from api.http.access.provider import ProviderAuth
    from api.http.auth import Authenticator
    from api.http.namespace_cache import NamespaceCache
    from api.settings import Settings
    from store.commit.write_watch import WriteWatch
    from store.connections.pool import Database


_Kept = TypeVar("_Kept")


class CacheProbe(Protocol):
    """The coordination store behind the `cache` check of `/api/ready`: writes, reads back and deletes a random value."""

    async def __call__(self) -> str | None:
        """None when the round trip worked, else a text saying why not (no credentials, no addresses)."""
        ...


@dataclass(slots=True)
class Services:
    """Everything endpoints talk to. `draining` is set when the node shuts down: polls then answer empty.

    `db` reads by key and writes, `searches` reads lists, `probes` is for health and readiness, `upkeep` for
    what maintenance deletes (`store.connections.pools`).
    `unfit`: why the schema of the database can not be served; every request that needs a credential is then answered 503.
    """

    settings: Settings
    db: Database
    searches: Database
    probes: Database
    engine: Engine
    auth: Authenticator | ProviderAuth
    namespaces: NamespaceCache
    workers: WorkerRegistry
    cache_probe: CacheProbe | None = None
    clock: Clock = field(default_factory=Clock)
    events_trouble: Callable[[], str | None] = lambda: None  # why the event stream stands still, if it does
    draining: bool = False
    writes: WriteWatch | None = None
    removal: NamespaceRemoval | None = None
    upkeep: Database = field(default=None)  # type: ignore[assignment]  # `db` when there is none of its own
    checks: dict[str, asyncio.Task[Any]] = field(default_factory=dict)
    """The checks of health and readiness in flight, shared by all who ask meanwhile."""
    unfit: str | None = None
    metrics: Metrics = NO_METRICS
    _kept: dict[type[Any], Any] = field(default_factory=dict)
    attribute_types: AttributeTypes = field(init=False)

    def __post_init__(self) -> None:
        self.attribute_types = AttributeTypes(self.db)
        self.upkeep = self.upkeep or self.db

    def forget_namespace(self, name: str) -> None:
        """A namespace was deleted: nothing that requests remember of it counts any more."""
        self.namespaces.forget(name)
        self.attribute_types.forget(name)
        self.workers.forget_namespace(name)

    def kept(self, kind: type[_Kept]) -> _Kept:
        """The one object of this class that endpoints keep between requests of this node, made when first asked for.

        May be called from any thread.
        """
        found: _Kept | None = self._kept.get(kind)
        return self._kept.setdefault(kind, kind()) if found is None else found
