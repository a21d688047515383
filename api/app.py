"""The ASGI application: Litestar routes the paths of the table to the pipeline.

Handlers are raw ASGI ones: Litestar matches the path and parses its parameters; nothing else of it runs on the hot path.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Litestar, Request, Response
from litestar.exceptions import HTTPException
from litestar.handlers import ASGIRouteHandler, asgi

from api.call import Services
from api.capabilities import server_capabilities
from api.envelope import WorkerEnvelope
from api.errors import ApiError
from api.pipeline import Pipeline
from api.routes import ROUTES
from api.routing import PathEntry, Route, paths_of

App = Callable[[Any, Any, Any], Awaitable[None]]

log = logging.getLogger("api")


class _Refusal(Response[bytes]):
    """A Litestar response that lets the pipeline answer a request its router refused."""

    def __init__(self, pipeline: Pipeline, error: ApiError) -> None:
        super().__init__(content=b"", status_code=error.status)
        self._pipeline = pipeline
        self._error = error

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        async def respond(scope: Any, _receive: Any, send: Any) -> None:
            head = scope["method"] == "HEAD"
            await self._pipeline.unrouted(scope["path"], dict(scope["headers"]), head, send, self._error)

        return respond


def create_app(services: Services, routes: list[Route] = ROUTES) -> App:
    """The application over `services`."""
    settings = services.settings
    worker_envelope = WorkerEnvelope(settings.worker_protocol_version, server_capabilities(settings))
    pipeline = Pipeline(services, worker_envelope)

    def refused(_: Request[Any, Any, Any], exception: Exception) -> Response[bytes]:
        return _Refusal(pipeline, _api_error(exception))

    litestar = Litestar(
        route_handlers=[_handler(pipeline, entry) for entry in paths_of(routes)],
        exception_handlers={HTTPException: refused, Exception: refused},
        openapi_config=None,
        logging_config=None,
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            # The router sees the path as sent, so that an encoded slash stays inside its parameter.
            scope["path"] = scope["raw_path"].decode("latin-1")
        await litestar(scope, receive, send)

    return app


def _handler(pipeline: Pipeline, entry: PathEntry) -> ASGIRouteHandler:
    async def handle(scope: Any, receive: Any, send: Any) -> None:
        await pipeline.handle(entry, scope, receive, send)

    path = "/api" + entry.template.replace("}", ":str}")
    return asgi(path, name=entry.template, copy_scope=False)(handle)


def _api_error(exception: Exception) -> ApiError:
    status = exception.status_code if isinstance(exception, HTTPException) else 500
    if status == 404:
        return ApiError(404, "not_found", "Nothing has this path.")
    if status >= 500:
        log.error("unexpected error in the router", exc_info=exception)
        return ApiError(500, "server_error", "The server met an unexpected error.")
    return ApiError(status, "bad_request", "The request is not valid.")
