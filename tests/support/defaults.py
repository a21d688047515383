"""What parts of a node are told when nothing is configured, for tests that build such a part by themselves.

Changes are given by field name; what is left out is as `node/config` says.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from actors.run.rules import Limits, RequestLimits, Rules, StructuralLimits
from api.settings import AttributionSettings, AuthSettings, Settings
from bus.connection import BusOptions
from node.config import Config
from node.http.limits import EdgeLimits
from node.settings import api_settings, bus_options, edge_limits, engine_rules
from store.connections.pool import Database
from store.migrate import seed

CONFIG = Config.read({}, host_name="durable-workflow")
RULES = engine_rules(CONFIG, CONFIG.server.shards)
SETTINGS = api_settings(CONFIG)
EDGE = edge_limits(CONFIG)
SHARDS = CONFIG.server.shards
STALE_AFTER_SECONDS = CONFIG.polling.worker_stale_after_seconds


async def seed_database(db: Database, shards: int = SHARDS) -> None:
    """The rows a new deployment starts from."""
    await seed(db, shards, [CONFIG.server.default_namespace], CONFIG.limits.history_retention_days)


def make_rules(**changes: int) -> Rules:
    """Rules of runs; limits are changed by their own names, wherever they stand."""
    limits = RULES.limits
    limits = dataclasses.replace(
        limits,
        request=dataclasses.replace(limits.request, **_taken(RequestLimits, changes)),
        structural=dataclasses.replace(limits.structural, **_taken(StructuralLimits, changes)),
        **_taken(Limits, changes),
    )
    return dataclasses.replace(RULES, limits=limits, **changes)


def _taken(of: type[Any], changes: dict[str, int]) -> dict[str, int]:
    return {name: changes.pop(name) for name in _names(of) if name in changes}


def _names(of: type[Any]) -> list[str]:
    return [field.name for field in dataclasses.fields(of)]


def make_auth(**changes: Any) -> AuthSettings:
    """Rules of authentication."""
    return dataclasses.replace(SETTINGS.auth, **changes)


def make_attribution(**changes: Any) -> AttributionSettings:
    """Which headers name a caller."""
    return dataclasses.replace(SETTINGS.attribution, **changes)


def make_settings(**changes: Any) -> Settings:
    """What the API is told."""
    return dataclasses.replace(SETTINGS, **changes)


def make_edge_limits(**changes: Any) -> EdgeLimits:
    """What the HTTP server is told."""
    return dataclasses.replace(EDGE, **changes)


def make_bus_options(**changes: Any) -> BusOptions:
    """How NATS is reached."""
    return dataclasses.replace(bus_options(CONFIG), **changes)
