"""The ASGI application: Litestar routes the paths of the table to the pipeline.

A handler hands its request over whole: the response object it returns runs the pipeline on the raw ASGI calls, so that nothing
of Litestar's own parsing and serializing is on the way.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Litestar, Request, Response, route
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.response.base import ASGIResponse

from api.http.envelope import WorkerEnvelope
from api.http.errors import ApiError, method_not_allowed
from api.http.pipeline import Pipeline
from api.http.route import PathEntry, Route, paths_of
from api.http.services import Services
from api.routes import ROUTES
from api.system.capabilities import server_capabilities
from base.observability.actions import said

App = Callable[[Any, Any, Any], Awaitable[None]]

log = logging.getLogger("dw.api")


class _Handover(ASGIResponse):
    """The answer to every request of one path: the pipeline."""

    __slots__ = ("_entry", "_pipeline")

    def __init__(self, pipeline: Pipeline, entry: PathEntry) -> None:
        super().__init__()
        self._pipeline = pipeline
        self._entry = entry

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self._pipeline.handle(self._entry, scope, receive, send)


class _Refusal(Response[bytes]):
    """The answer to a request the router refused, in the envelope of its plane."""

    def __init__(self, pipeline: Pipeline, error: ApiError) -> None:
        super().__init__(content=b"", status_code=error.status)
        self._pipeline = pipeline
        self._error = error

    def to_asgi_response(self, *_: Any, **__: Any) -> Any:
        async def respond(scope: Any, receive: Any, send: Any) -> None:
            await self._pipeline.unrouted(scope, receive, send, self._error)

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


def _handler(pipeline: Pipeline, entry: PathEntry) -> HTTPRouteHandler:
    handover = _Handover(pipeline, entry)

    async def handle() -> ASGIResponse:
        return handover

    path = "/api" + entry.template.replace("}", ":str}")
    # OPTIONS is ours, too, or Litestar would answer it by itself.
    methods: list[Any] = [*entry.routes, "OPTIONS"]
    # A status is only asked for because Litestar insists on one; the pipeline sends its own.
    return route(path, http_method=methods, status_code=200, name=entry.template)(handle)


def _api_error(exception: Exception) -> ApiError:
    status = exception.status_code if isinstance(exception, HTTPException) else 500
    if status == 404:
        return ApiError(404, "not_found", "Nothing has this path.")
    if status == 405 and isinstance(exception, HTTPException):
        known = {name.strip() for name in (exception.headers or {}).get("allow", "").split(",")} - {"OPTIONS", ""}
        return method_not_allowed(", ".join(sorted(known)))
    if status >= 500:
        log.error("unexpected error in the router", exc_info=exception, extra=said("request.router_failed"))
        return ApiError(500, "server_error", "The server met an unexpected error.")
    return ApiError(status, "bad_request", "The request is not valid.")
