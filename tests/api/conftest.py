"""The API over a real Postgres, served on a free port; tests that need the engine use the `server` fixture."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, cast

import httpx
import pytest

from actors.workers.registry import WorkerRegistry
from api.app import create_app
from api.http.auth import authenticator
from api.http.namespace_cache import NamespaceCache
from api.http.services import Services
from api.settings import Settings
from node.http.server import HttpServer, base_url, bind
from store.connections.pool import Database
from tests.api.driver import Http
from tests.support.defaults import EDGE, STALE_AFTER_SECONDS
from tests.support.server import ServerProcess
from tests.support.services import TestServices

Api = Callable[..., AbstractAsyncContextManager[httpx.AsyncClient]]

CONTROL = {"X-Durable-Workflow-Control-Plane-Version": "2"}
WORKER = {"X-Durable-Workflow-Protocol-Version": "1.0"}


@pytest.fixture
async def db(services: TestServices) -> AsyncIterator[Database]:
    """A bootstrapped database of this test's own."""
    database = Database(services.database())
    await database.start()
    yield database
    await database.stop()


async def _cache_answers() -> str | None:
    return None


@contextlib.asynccontextmanager
async def serving(app: Any) -> AsyncIterator[str]:
    """The URL of `app`, served as a node does."""
    bound = bind("127.0.0.1", 0)
    server = HttpServer(app, bound, grace_seconds=5, limits=EDGE)
    await server.start()
    try:
        yield base_url(bound)
    finally:
        await server.stop()


def services_for(db: Database, settings: Settings) -> Services:
    """API services without an engine: enough for everything that is answered before or without it."""
    return Services(
        settings=settings,
        db=db,
        searches=db,
        probes=db,
        engine=cast(Any, None),
        auth=authenticator(settings.auth),
        namespaces=NamespaceCache(db),
        workers=WorkerRegistry(db, STALE_AFTER_SECONDS),
        cache_probe=_cache_answers,
    )


@pytest.fixture
def api(db: Database) -> Api:
    """`async with api(settings, headers=...) as client` serves the API with these settings."""

    @contextlib.asynccontextmanager
    async def serve(
        settings: Settings, headers: dict[str, str] | None = None, routes: Any = None
    ) -> AsyncIterator[httpx.AsyncClient]:
        services = services_for(db, settings)
        app = create_app(services) if routes is None else create_app(services, routes)
        async with serving(app) as url, httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            yield client

    return serve


@pytest.fixture
async def http(server: ServerProcess) -> AsyncIterator[Http]:
    headers = {**CONTROL, **WORKER, "Authorization": f"Bearer {server.token}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30) as client:
        yield Http(client)
