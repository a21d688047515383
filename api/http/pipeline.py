"""The request pipeline: every request passes the same stages in the same order (configuration-and-security 1.1).

Route, repeated fields, body size, media type, JSON, authentication, role, version header, namespace, endpoint. The first
failure answers, and every outcome gets the envelope of the route's plane here and nowhere else. A long body is read after
authentication and role.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from actors.errors import Unavailable
from api.http import envelope
from api.http.body import BODY_METHODS, Disconnected, check_media_type, parse_body, read_body
from api.http.call import Answer, Call, Connection, Principal, Receive, Services
from api.http.compression import THRESHOLD_BYTES, compress, negotiate
from api.http.errors import ApiError, method_not_allowed, unavailable
from api.http.json_text import Members, Sparse
from api.http.offload import LONG, for_size, off_loop
from api.http.route import WORKER, PathEntry, Route, plane_of
from api.http.singletons import check_singletons, fields_of
from store.errors import StoreUnavailable

Send = Callable[[Any], Awaitable[None]]
Scope = dict[str, Any]

log = logging.getLogger("api")

_CONTENT_TYPE = (b"content-type", b"application/json")
_CACHE_CONTROL = (b"cache-control", b"no-cache, private")
_CONTROL_VERSION = (envelope.CONTROL_HEADER.lower().encode(), envelope.CONTROL_VERSION.encode())
_CLOSE = (b"connection", b"close")
_VARY = (b"vary", b"Accept-Encoding")

_CONTROL_KEY = envelope.CONTROL_HEADER.lower().encode()
_WORKER_KEY = envelope.WORKER_HEADER.lower().encode()


class _Exchange:
    """One request and what is known of it so far. `compressible`: the answer may be (not before the body was accepted)."""

    __slots__ = (
        "compressible", "connection", "headers", "method", "path", "plane", "query", "route", "send", "sent", "url_path",
    )  # fmt: skip

    def __init__(self, scope: Scope, plane: str, route: Route | None, send: Send) -> None:
        self.sent: list[tuple[bytes, bytes]] = scope["headers"]
        self.headers = fields_of(self.sent)
        self.method: str = scope["method"]
        self.query: bytes = scope["query_string"]
        self.path: dict[str, str] = scope.get("path_params", {})
        self.url_path: str = scope["path"]
        self.plane = plane
        self.route = route
        self.send = send
        self.compressible = False
        self.connection: Connection | None = scope.get("extensions", {}).get("dw.connection")


class Pipeline:
    """Runs requests through the stages. One per application."""

    def __init__(self, services: Services, worker_envelope: envelope.WorkerEnvelope) -> None:
        self._services = services
        self._settings = services.settings
        self._authenticator = services.auth
        self._worker = worker_envelope
        self._limit = services.settings.limits.max_payload_bytes
        self._default_namespace = services.settings.default_namespace.lower()
        forwarded = services.settings.attribution
        names = (forwarded.label_header, forwarded.status_header, forwarded.method_header)
        self._own_singletons = frozenset(names) if forwarded.trusted else frozenset()

    async def handle(self, entry: PathEntry, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request whose path has routes."""
        exchange = _Exchange(scope, entry.plane, entry.routes.get(scope["method"]), send)
        failed = True
        try:
            answer = await self._answer(entry, exchange, receive)
            failed = False
        except Disconnected:
            return
        except ApiError as error:
            answer = Answer(error.status, error.body, error.headers)
        except (Unavailable, StoreUnavailable):
            away = unavailable()
            answer = Answer(away.status, away.body, away.headers)
        except Exception:
            log.exception("unexpected error answering %s %s", scope["method"], entry.template)
            answer = Answer(500, {"message": "The server met an unexpected error.", "reason": "server_error"})
        await self._respond(exchange, answer, failed)

    async def unrouted(self, scope: Scope, send: Send, error: ApiError) -> None:
        """Answers a request whose path has no route (404), or which the router refused."""
        exchange = _Exchange(scope, plane_of(scope["path"]), None, send)
        await self._respond(exchange, Answer(error.status, error.body, error.headers), True)

    async def _answer(self, entry: PathEntry, exchange: _Exchange, receive: Receive) -> Answer:
        """All stages after the path was found. Raises ApiError and whatever endpoints raise."""
        route, headers, method = exchange.route, exchange.headers, exchange.method
        if route is None:
            raise method_not_allowed(entry.allow)
        if exchange.path:
            exchange.path = _decoded(exchange.path)
        if len(headers) != len(exchange.sent):
            check_singletons(exchange.sent, self._own_singletons)
        body = await read_body(headers, receive, self._limit)
        fields: Members | Sparse = {}
        principal: Principal | None = None
        read = bool(body) and method in BODY_METHODS
        if read:
            check_media_type(headers)
            if len(body) > LONG:
                # What costs time to read is read for callers that may ask only.
                principal = self._admit(route, headers, body)
                fields = await off_loop(parse_body, headers, body)
            else:
                fields = parse_body(headers, body)
        exchange.compressible = True
        if principal is None:
            principal = self._admit(route, headers, body)
        version = ""
        if route.versioned:
            version = self._check_version(route.plane, headers)
        query = exchange.query
        namespace = self._namespace(headers, query)
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
        call = Call(
            self._services,
            namespace,
            principal,
            exchange.path,
            query,
            fields,
            receive,
            version,
            exchange.connection,
            headers,
            method,
            exchange.url_path,
            body if read else b"",
        )
        return await route.endpoint(call)

    def _admit(self, route: Route, headers: dict[bytes, bytes], body: bytes) -> Principal | None:
        """Who calls, None on a public route. Raises ApiError 401, 403, 500, or 503 while the node cannot serve."""
        if route.roles is None:
            return None
        principal = self._authenticator.authenticate(headers, body)
        _check_role(principal, route.roles)
        if self._services.unfit is not None:
            raise unavailable()
        return principal

    def _namespace(self, headers: dict[bytes, bytes], query: bytes) -> str:
        """The requested namespace (configuration-and-security 1.5)."""
        header = headers.get(b"x-namespace")
        if header is not None:
            return header.decode("latin-1").strip().lower()
        if b"namespace=" in query:
            for pair in query.split(b"&"):
                name, _, value = pair.partition(b"=")
                if name == b"namespace":
                    # A blank query parameter counts as absent (9.2), an empty header does not.
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

    async def _respond(self, exchange: _Exchange, answer: Answer, failed: bool) -> None:
        """Sends an answer in the envelope of its plane."""
        headers, route = exchange.headers, exchange.route
        out = [_CONTENT_TYPE, _CACHE_CONTROL, *answer.headers]
        body = answer.body
        if exchange.plane == WORKER:
            version = headers.get(_WORKER_KEY, b"").strip().decode("latin-1")
            out.append(self._worker.header(version))
            data = self._worker.wrap(version, body if isinstance(body, bytes) else envelope.encode(body))
        else:
            if failed or (route is not None and route.versioned):
                out.append(_CONTROL_VERSION)
            if headers.get(b"user-agent", b"").startswith(b"python-httpx/"):
                # The SDK's synchronous client cannot reuse a connection (sdk-expectations 1.5).
                out.append(_CLOSE)
            if isinstance(body, dict):
                if route is not None and route.operation is not None:
                    envelope.add_control_plane(body, route.operation, exchange.path)
                data = envelope.encode(body)
            else:
                data = body
        if exchange.compressible and len(data) >= THRESHOLD_BYTES and self._settings.compression_enabled:
            encoding = negotiate(headers.get(b"accept-encoding", b""))
            if encoding is not None:
                data = await for_size(data, compress, data, encoding)
                out += ((b"content-encoding", encoding.encode()), _VARY)
        out.append((b"content-length", b"%d" % len(data)))
        await exchange.send({"type": "http.response.start", "status": answer.status, "headers": out})
        await exchange.send({"type": "http.response.body", "body": b"" if exchange.method == "HEAD" else data})


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
