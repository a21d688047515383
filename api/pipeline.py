"""The request pipeline: every request passes the same stages in the same order (configuration-and-security 1.1).

Route, body size, media type, JSON, authentication, role, version header, namespace, endpoint. The first failure answers, and
every outcome gets the envelope of the route's plane here and nowhere else.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

from actors.errors import Unavailable
from api import envelope
from api.body import BODY_METHODS, Disconnected, check_media_type, parse_body, read_body
from api.call import Answer, Call, Principal, Receive, Services
from api.compression import THRESHOLD_BYTES, compress, negotiate
from api.errors import ApiError, unavailable
from api.routing import WORKER, PathEntry, Route, plane_of
from store.errors import StoreUnavailable

Send = Callable[[Any], Awaitable[None]]
Scope = dict[str, Any]

log = logging.getLogger("api")

_CONTENT_TYPE = (b"content-type", b"application/json")
_CACHE_CONTROL = (b"cache-control", b"no-cache, private")
_CONTROL_VERSION = (envelope.CONTROL_HEADER.lower().encode(), envelope.CONTROL_VERSION.encode())
_CLOSE = (b"connection", b"close")
_VARY = (b"vary", b"Accept-Encoding")
_ALLOW = b"allow"

_CONTROL_KEY = envelope.CONTROL_HEADER.lower().encode()
_WORKER_KEY = envelope.WORKER_HEADER.lower().encode()


class Pipeline:
    """Runs requests through the stages. One per application."""

    def __init__(self, services: Services, worker_envelope: envelope.WorkerEnvelope) -> None:
        self._services = services
        self._settings = services.settings
        self._authenticator = services.auth
        self._worker = worker_envelope
        self._limit = services.settings.limits.max_payload_bytes
        self._default_namespace = services.settings.default_namespace.lower()

    async def handle(self, entry: PathEntry, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request whose path has routes."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        path: dict[str, str] = scope["path_params"]
        route = entry.routes.get(scope["method"])
        compressible = False
        try:
            if route is None:
                allow = ((_ALLOW, entry.allow),)
                raise ApiError(405, "method_not_allowed", "The method is not allowed for this path.", headers=allow)
            if path:
                path = _decoded(path)
            body = await read_body(headers, receive, self._limit)
            fields: dict[str, Any] = {}
            if body and scope["method"] in BODY_METHODS:
                check_media_type(headers)
                fields = parse_body(headers, body)
            compressible = True
            answer = await self._authorized(route, scope, headers, body, fields, path, receive)
            failed = False
        except Disconnected:
            return
        except ApiError as error:
            answer = Answer(error.status, error.body, error.headers)
            failed = True
        except (Unavailable, StoreUnavailable):
            error = unavailable()
            answer = Answer(error.status, error.body, error.headers)
            failed = True
        except Exception:
            log.exception("unexpected error answering %s %s", scope["method"], entry.template)
            answer = Answer(500, {"message": "The server met an unexpected error.", "reason": "server_error"})
            failed = True
        await self._respond(entry.plane, route, answer, failed, compressible, scope["method"] == "HEAD", headers, path, send)

    async def unrouted(self, path: str, headers: dict[bytes, bytes], head: bool, send: Send, error: ApiError) -> None:
        """Answers a request whose path has no route (404), or which the router refused."""
        answer = Answer(error.status, error.body, error.headers)
        await self._respond(plane_of(path), None, answer, True, False, head, headers, {}, send)

    async def _authorized(
        self,
        route: Route,
        scope: Scope,
        headers: dict[bytes, bytes],
        body: bytes,
        fields: dict[str, Any],
        path: dict[str, str],
        receive: Receive,
    ) -> Answer:
        """Stages from authentication on."""
        principal: Principal | None = None
        if route.roles is not None:
            principal = self._authenticator.authenticate(headers, body)
            _check_role(principal, route.roles)
        version = ""
        if route.versioned:
            version = self._check_version(route.plane, headers)
        query: bytes = scope["query_string"]
        namespace = self._namespace(headers, query)
        if route.namespaced and not (self._services.namespaces.known(namespace) or await self._services.namespaces.exists(namespace)):
            raise ApiError(
                404,
                "namespace_not_found",
                f"Namespace '{namespace}' does not exist.",
                namespace=namespace,
                remediation="Create it with POST /api/namespaces first.",
            )
        return await route.endpoint(Call(self._services, namespace, principal, path, query, fields, receive, version))

    def _namespace(self, headers: dict[bytes, bytes], query: bytes) -> str:
        """The requested namespace (configuration-and-security 1.5)."""
        header = headers.get(b"x-namespace")
        if header is not None:
            return header.decode("latin-1").strip().lower()
        if b"namespace=" in query:
            for pair in query.split(b"&"):
                name, _, value = pair.partition(b"=")
                if name == b"namespace":
                    return unquote(value.replace(b"+", b" ").decode("latin-1")).strip().lower()
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
                f"The control-plane version {sent} is not supported." if sent else "The control-plane version header is missing.",
                supported_version=envelope.CONTROL_VERSION,
                requested_version=sent or None,
                remediation=f"Send {envelope.CONTROL_HEADER}: {envelope.CONTROL_VERSION}.",
            )
        return sent

    def _worker_version_error(self, sent: str) -> ApiError:
        return ApiError(
            400,
            "unsupported_protocol_version" if sent else "missing_protocol_version",
            f"The worker protocol version {sent} is not supported." if sent else "The worker protocol version header is missing.",
            text_key="error",
            supported_version=self._worker.advertised,
            requested_version=sent or None,
            remediation=f"Send {envelope.WORKER_HEADER}: {self._worker.advertised}.",
            supported_versions=self._worker.supported,
        )

    async def _respond(
        self,
        plane: str,
        route: Route | None,
        answer: Answer,
        failed: bool,
        compressible: bool,
        head: bool,
        headers: dict[bytes, bytes],
        path: dict[str, str],
        send: Send,
    ) -> None:
        out = [_CONTENT_TYPE, _CACHE_CONTROL, *answer.headers]
        body = answer.body
        if plane == WORKER:
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
                    envelope.add_control_plane(body, route.operation, path)
                data = envelope.encode(body)
            else:
                data = body
        if compressible and len(data) >= THRESHOLD_BYTES and self._settings.compression_enabled:
            encoding = negotiate(headers.get(b"accept-encoding", b""))
            if encoding is not None:
                data = compress(data, encoding)
                out += ((b"content-encoding", encoding.encode()), _VARY)
        out.append((b"content-length", b"%d" % len(data)))
        await send({"type": "http.response.start", "status": answer.status, "headers": out})
        await send({"type": "http.response.body", "body": b"" if head else data})


def _decoded(path: dict[str, str]) -> dict[str, str]:
    """Percent-decoded path parameters. A NUL character names nothing that could exist."""
    for name, value in path.items():
        if "%" in value:
            path = {**path, name: unquote(value)}
            if "\x00" in path[name]:
                raise ApiError(404, "not_found", "Nothing has this path.")
    return path


def _check_role(principal: Principal, allowed: tuple[str, ...]) -> None:
    if principal.legacy_full_access or any(role in allowed for role in principal.roles):
        return
    fields: dict[str, Any] = {"role": principal.roles[0]} if principal.roles else {}
    raise ApiError(403, "forbidden", "This role may not call the endpoint.", **fields, allowed_roles=list(allowed))
