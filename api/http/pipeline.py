"""The request pipeline: every request passes the same stages in the same order (configuration-and-security 1.1).

Route, repeated fields, body size, media type, JSON, authentication, role, version header, namespace, endpoint. The first
failure answers, and every outcome gets the envelope of the route's plane here and nowhere else. A long body is read after
authentication and role.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from actors.errors import Unavailable
from api.http import envelope
from api.http.access.provider import ProviderAuth
from api.http.compression import THRESHOLD_BYTES, compress, negotiate
from api.http.errors import ApiError, method_not_allowed, unavailable
from api.http.input.body import BODY_METHODS, Disconnected, check_media_type, parse_body, read_body
from api.http.input.json_text import Members, Sparse
from api.http.input.offload import LONG, for_size, off_loop
from api.http.input.singletons import check_singletons
from api.http.quirks import extra_headers
from api.http.request import Receive, Request, Scope
from api.http.response import Response
from api.http.route import WORKER, PathEntry, Route, plane_of
from api.http.services import Services
from base.observability.actions import said
from base.observability.metrics import REQUESTS
from durable_workflow_server.auth import Principal
from store.errors import StoreUnavailable

Send = Callable[[Any], Awaitable[None]]

log = logging.getLogger("dw.api")

_CONTENT_TYPE = (b"content-type", b"application/json")
_CACHE_CONTROL = (b"cache-control", b"no-cache, private")
_CONTROL_VERSION = (envelope.CONTROL_HEADER.lower().encode(), envelope.CONTROL_VERSION.encode())
_VARY = (b"vary", b"Accept-Encoding")

_CONTROL_KEY = envelope.CONTROL_HEADER.lower().encode()
_WORKER_KEY = envelope.WORKER_HEADER.lower().encode()


class Pipeline:
    """Runs requests through the stages. One per application."""

    def __init__(self, services: Services, worker_envelope: envelope.WorkerEnvelope) -> None:
        self._services = services
        self._settings = services.settings
        # Either the built-in driver is asked, or a provider.
        self._provider = services.auth if isinstance(services.auth, ProviderAuth) else None
        self._driver = None if isinstance(services.auth, ProviderAuth) else services.auth
        self._worker = worker_envelope
        self._metrics = services.metrics
        self._limit = services.settings.limits.request.max_payload_bytes
        self._default_namespace = services.settings.default_namespace.lower()
        forwarded = services.settings.attribution
        names = (forwarded.type_header, forwarded.label_header, forwarded.status_header, forwarded.method_header)
        self._own_singletons = frozenset(names) if forwarded.trusted else frozenset()

    async def handle(self, entry: PathEntry, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request whose path has routes."""
        request = Request(self._services, scope, receive)
        route = entry.routes.get(request.method)
        failed = True
        try:
            response = await self._answer(entry, route, request)
            failed = False
        except Disconnected:
            return
        except ApiError as error:
            response = error.response
        except (Unavailable, StoreUnavailable):
            response = unavailable().response
        except Exception:
            log.exception(
                "unexpected error answering %s %s",
                request.method,
                entry.template,
                extra=said("request.failed", method=request.method, route=entry.template, request_id=request.request_id),
            )
            response = Response(500, {"message": "The server met an unexpected error.", "reason": "server_error"})
        await self._respond(request, entry.plane, route, response, send, failed=failed)

    async def unrouted(self, scope: Scope, receive: Receive, send: Send, error: ApiError) -> None:
        """Answers a request whose path has no route (404), or which the router refused."""
        request = Request(self._services, scope, receive)
        await self._respond(request, plane_of(request.url_path), None, error.response, send, failed=True)

    async def _answer(self, entry: PathEntry, route: Route | None, request: Request) -> Response:
        """All stages after the path was found; each fills in what it learns. Raises ApiError and whatever endpoints raise."""
        if route is None:
            raise method_not_allowed(entry.allow)
        headers = request.headers
        if request.path:
            request.path = _decoded(request.path)
        if len(headers) != len(request.sent):
            check_singletons(request.sent, self._own_singletons)
        body = await read_body(headers, request.receive, self._limit)
        if body and request.method in BODY_METHODS:
            check_media_type(headers)
            request.text = body
        long = len(request.text) > LONG  # what costs time to read is read for callers that may ask only
        if request.text and not long:
            request.body = parse_body(headers, body)
        request.compressible = not long
        if self._provider is not None:
            await self._ask(self._provider, route, request, body, long)
        elif long:
            request.principal, request.body = await off_loop(self._admit_long, route, headers, body)
        else:
            request.principal = self._admit(route, headers, body)
        request.compressible = True
        if route.versioned:
            request.protocol_version = self._check_version(route.plane, headers)
        namespace = request.namespace = self._namespace(headers, request.query_string)
        if route.namespaced and not (
            self._services.namespaces.known(namespace) or await self._services.namespaces.exists(namespace)
        ):
            raise ApiError(
                404,
                "namespace_not_found",
                f"Namespace '{namespace}' does not exist.",
                namespace=namespace,
                remediation="Create it with POST /api/namespaces first.",
            )
        return await route.endpoint(request)

    def _admit(self, route: Route, headers: dict[bytes, bytes], body: bytes) -> Principal | None:
        """Who calls, None on a public route. Raises ApiError 401, 403, 500, or 503 while the node cannot serve."""
        if route.roles is None:
            return None
        assert self._driver is not None
        principal = self._driver.authenticate(headers, body)
        _check_role(principal, route.roles)
        if self._services.unfit is not None:
            raise unavailable()
        return principal

    def _admit_long(self, route: Route, headers: dict[bytes, bytes], body: bytes) -> tuple[Principal | None, Members | Sparse]:
        """The same with the body read; a signature of a long one takes its time, too."""
        return self._admit(route, headers, body), parse_body(headers, body)

    async def _ask(self, provider: ProviderAuth, route: Route, request: Request, body: bytes, long: bool) -> None:
        """The same by a provider, which is told what stands in the body. `long`: it is read in between."""
        headers = request.headers
        principal = None if route.roles is None else await provider.authenticate(route, request, body)
        if long:
            request.body = await off_loop(parse_body, headers, body)
        if principal is None:
            return
        await provider.authorize(principal, route, request, self._namespace(headers, request.query_string))
        if self._services.unfit is not None:
            raise unavailable()

    def _namespace(self, headers: dict[bytes, bytes], query: bytes) -> str:
        """The requested namespace (configuration-and-security 1.5)."""
        header = headers.get(b"x-namespace")
        if header is not None:
            return header.decode("latin-1").strip().lower()
        if b"namespace=" in query:
            for pair in query.split(b"&"):
                name, _, value = pair.partition(b"=")
                if name == b"namespace":
                    # A blank query parameter counts as absent (configuration-and-security 9.2), an empty header does not.
                    return unquote(value.replace(b"+", b" ").decode("latin-1")).strip().lower() or self._default_namespace
        return self._default_namespace

    def _check_version(self, plane: str, headers: dict[bytes, bytes]) -> str:
        """The version of the request's plane header; raises ApiError 400 when missing or not accepted."""
        if plane == WORKER:
            sent = headers.get(_WORKER_KEY, b"").strip().decode("latin-1")
            if not self._worker.accepts(sent):
                raise self._worker_version_error(sent)
            return sent
        sent = headers.get(_CONTROL_KEY, b"").strip().decode("latin-1")
        if sent != envelope.CONTROL_VERSION:
            raise ApiError(
                400,
                "unsupported_control_plane_version" if sent else "missing_control_plane_version",
                f"The control-plane version {sent} is not supported."
                if sent
                else "The control-plane version header is missing.",
                supported_version=envelope.CONTROL_VERSION,
                requested_version=sent or None,
                remediation=f"Send {envelope.CONTROL_HEADER}: {envelope.CONTROL_VERSION}.",
            )
        return sent

    def _worker_version_error(self, sent: str) -> ApiError:
        return ApiError(
            400,
            "unsupported_protocol_version" if sent else "missing_protocol_version",
            f"The worker protocol version {sent} is not supported."
            if sent
            else "The worker protocol version header is missing.",
            text_key="error",
            supported_version=self._worker.advertised,
            requested_version=sent or None,
            remediation=f"Send {envelope.WORKER_HEADER}: {self._worker.advertised}.",
            supported_versions=self._worker.supported,
        )

    async def _respond(
        self, request: Request, plane: str, route: Route | None, response: Response, send: Send, *, failed: bool
    ) -> None:
        """Sends an answer in the envelope of its plane."""
        headers, body = request.headers, response.body
        out = [_CONTENT_TYPE, _CACHE_CONTROL, *response.headers]
        if plane == WORKER:
            version = headers.get(_WORKER_KEY, b"").strip().decode("latin-1")
            out.append(self._worker.header(version))
            data = self._worker.wrap(version, body if isinstance(body, bytes) else envelope.encode(body))
        else:
            if failed or (route is not None and route.versioned):
                out.append(_CONTROL_VERSION)
            out += extra_headers(headers)
            if isinstance(body, dict):
                if route is not None and route.operation is not None:
                    envelope.add_control_plane(body, route.operation, request.path)
                data = envelope.encode(body)
            elif isinstance(body, bytes):
                data = body
            else:
                await self._stream(request, route, response, body, out, send)
                return
        if request.compressible and len(data) >= THRESHOLD_BYTES and self._settings.compression_enabled:
            encoding = negotiate(headers.get(b"accept-encoding", b""))
            if encoding is not None:
                data = await for_size(data, compress, data, encoding)
                out += ((b"content-encoding", encoding.encode()), _VARY)
        out.append((b"content-length", b"%d" % len(data)))
        self._metrics.count(REQUESTS, (request.method, "none" if route is None else route.template, response.status))
        await send({"type": "http.response.start", "status": response.status, "headers": out})
        await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else data})

    async def _stream(
        self,
        request: Request,
        route: Route | None,
        response: Response,
        pieces: AsyncGenerator[bytes, None],
        headers: list[tuple[bytes, bytes]],
        send: Send,
    ) -> None:
        """Sends an answer piece by piece, as fast as it is taken; whole to a client that reads no answer in pieces."""
        self._metrics.count(REQUESTS, (request.method, "none" if route is None else route.template, response.status))
        start = {"type": "http.response.start", "status": response.status, "headers": headers}
        async with contextlib.aclosing(pieces):
            if request.method == "HEAD":
                await send(start)
            elif request.http_version == "1.0":
                whole = b"".join([piece async for piece in pieces])
                await send({**start, "headers": [*headers, (b"content-length", b"%d" % len(whole))]})
                await send({"type": "http.response.body", "body": whole})
                return
            else:
                await send(start)
                async for piece in pieces:
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _decoded(path: dict[str, str]) -> dict[str, str]:
    """Percent-decoded path parameters. A NUL names nothing that could exist; operation names have rules of their own."""
    for name, value in path.items():
        if "%" in value:
            path = {**path, name: unquote(value)}
            if "\x00" in path[name] and name not in envelope.NAME_FIELDS:
                raise ApiError(404, "not_found", "Nothing has this path.")
    return path


def _check_role(principal: Principal, allowed: tuple[str, ...]) -> None:
    if principal.legacy_full_access or any(role in allowed for role in principal.roles):
        return
    fields: dict[str, Any] = {"role": principal.roles[0]} if principal.roles else {}
    raise ApiError(403, "forbidden", "This role may not call the endpoint.", **fields, allowed_roles=list(allowed))
