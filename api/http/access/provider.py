"""A provider of the operator's in the place of the built-in drivers (configuration-and-security 4).

It is loaded once, at start. Whatever it does, a request is let in by a literal `True` of `authorize` alone: a fault is 500,
silence 503, and what it raises is told to the log without what the request brought along.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import logging
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any, NoReturn
from urllib.parse import parse_qs

import msgspec

from api.http.access.resource import resource_of
from api.http.access.threads import Threads
from api.http.errors import ApiError, unavailable
from api.http.request import Request
from api.http.route import Route
from api.settings import AuthSettings
from base.observability.actions import said
from durable_workflow_server.auth import ACTION, AuthError, AuthProvider, AuthRequest, Headers, Principal

log = logging.getLogger("dw.api")

_MOST_BYTES = 16 * 1024  # of a principal, which is kept with every command
_LEAST_SECRET = 6  # characters; shorter words of a request are no secrets
_REMEDIATION = "Set DW_AUTH_PROVIDER to package.module:Class, importable here, with authenticate and authorize."

_SCHEMES = frozenset({"bearer", "digest", "negotiate"})

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode
_pack = msgspec.msgpack.Encoder().encode


class _Unusable(Exception):
    """Why a provider can not be used; the text holds no values of the environment."""


class ProviderFault(Exception):
    """What a provider raised, as text that shows no credential of the request."""


class ProviderAuth:
    """The provider of `DW_AUTH_PROVIDER`. One that can not be loaded answers every request with 500."""

    def __init__(self, named: str, settings: AuthSettings) -> None:
        """Loads the provider of the import path `named`; never raises."""
        self._named = named
        self._seconds = settings.provider_seconds
        self._threads = Threads(settings.provider_threads, "auth-provider")
        self._complaint: str | None = None
        try:
            provider = _load(self._named)
            self._authenticate = _caller(provider.authenticate, self._threads)
            self._authorize = _caller(provider.authorize, self._threads)
        except _Unusable as error:
            self._complaint = str(error)
            log.error(
                "the auth provider can not be used: %s",
                error,
                exc_info=error.__cause__,
                extra=said("auth.provider_unusable"),
            )

    def readiness(self) -> dict[str, Any]:
        """The `auth` check of /api/ready."""
        check = {"status": "ok", "driver": "custom", "provider": self._named}
        if self._complaint is not None:
            check |= {"status": "invalid", "remediation": _REMEDIATION, "message": self._complaint}
        return check

    async def authenticate(self, route: Route, request: Request, body: bytes) -> Principal:
        """Who sent the request, as the provider said it; `request.principal` becomes what is kept of it.

        Raises ApiError 401, 500 or 503.
        """
        if self._complaint is not None:
            raise ApiError(500, "server_error", "The auth provider of DW_AUTH_PROVIDER can not be used.")
        asked = AuthRequest(
            request.method,
            request.url_path,
            {
                name: tuple(values)
                for name, values in parse_qs(request.query_string.decode("latin-1"), keep_blank_values=True).items()
            },
            Headers(request.sent),
            body,
            request.client[0] if request.client else None,
        )
        principal = await self._ask("authenticate", self._authenticate, route, request, asked)
        if principal is None:
            raise ApiError(401, "unauthorized", "The credentials are missing or wrong.")
        try:
            request.principal = _kept(principal)
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as fault:
            self._failed("authenticate", route, request, fault)
        found: Principal = principal
        return found

    async def authorize(self, principal: Principal, route: Route, request: Request, namespace: str) -> None:
        """Let the request in, whose body is read, or raise ApiError 403, 500 or 503. `namespace`: the requested one."""
        resource = resource_of(route, request, namespace)
        if await self._ask("authorize", self._authorize, route, request, principal, ACTION, resource) is True:
            return
        role: dict[str, Any] = {"role": principal.roles[0]} if principal.roles else {}
        raise ApiError(403, "forbidden", "The caller may not call the endpoint.", **role, allowed_roles=list(route.roles or ()))

    async def _ask(self, what: str, call: Callable[..., Any], route: Route, request: Request, *arguments: Any) -> Any:
        limit = asyncio.timeout(self._seconds)
        try:
            async with limit:
                return await call(*arguments)
        except AuthError as error:
            text = _redacted(error.message, request) or "The request is not authenticated."
            raise unavailable(text) if error.status == 503 else ApiError(error.status, error.reason, text) from None
        except asyncio.CancelledError as fault:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            self._failed(what, route, request, fault)
        except TimeoutError as fault:
            if not limit.expired():
                self._failed(what, route, request, fault)
            log.warning(
                "the auth provider did not answer in %s seconds",
                self._seconds,
                extra=said("auth.provider_silent", method=request.method, route=route.template, request_id=request.request_id),
            )
            raise unavailable("Authentication did not answer in time; the request can be repeated.") from None
        except (Exception, SystemExit, KeyboardInterrupt, GeneratorExit) as fault:
            self._failed(what, route, request, fault)

    def _failed(self, what: str, route: Route, request: Request, fault: BaseException) -> NoReturn:
        text = _redacted("".join(traceback.format_exception(fault)), request)
        log.error(
            "the auth provider failed to %s",
            what,
            exc_info=ProviderFault(text),
            extra=said("auth.provider_failed", method=request.method, route=route.template, request_id=request.request_id),
        )
        raise ApiError(500, "server_error", "The auth provider met an unexpected error.") from None


def _load(named: str) -> AuthProvider:
    """The provider of an import path. Raises _Unusable."""
    module, _, name = named.partition(":") if ":" in named else named.rpartition(".")
    if not module or not name or not all(part.isidentifier() for part in [*module.split("."), *name.split(".")]):
        raise _Unusable("DW_AUTH_PROVIDER is no import path of the form package.module:Class.")
    try:
        kind: Any = importlib.import_module(module)
        for part in name.split("."):
            kind = getattr(kind, part)
    except (Exception, SystemExit) as error:
        raise _Unusable(f"The class can not be imported ({type(error).__name__}).") from error
    if not isinstance(kind, type):
        raise _Unusable("DW_AUTH_PROVIDER names no class.")
    for method in ("authenticate", "authorize"):
        own = getattr(kind, method, None)
        if not callable(own) or own is getattr(AuthProvider, method):
            raise _Unusable(f"The class has no method {method}.")
    try:
        provider: AuthProvider = kind()
    except (Exception, SystemExit) as error:
        raise _Unusable(f"The provider can not be made ({type(error).__name__}).") from error
    return provider


def _caller(method: Callable[..., Any], threads: Threads) -> Callable[..., Any]:
    """A coroutine function that calls a method: on the loop if it is one itself, else in a thread."""
    if inspect.iscoroutinefunction(method) or inspect.iscoroutinefunction(getattr(method, "__call__", None)):  # noqa: B004
        return method

    async def call(*arguments: Any) -> Any:
        result = await threads.run(partial(method, *arguments))
        return await result if inspect.isawaitable(result) else result

    return call


def _kept(principal: object) -> Principal:
    """A principal of plain JSON. Raises TypeError, ValueError and the like for what can not be kept with a command."""
    if not isinstance(principal, Principal):
        raise TypeError(f"authenticate returned no Principal but {type(principal).__name__}")
    told = [principal.subject, principal.roles, principal.method, principal.tenant, principal.claims]
    text = _encode(told)
    if len(text) > _MOST_BYTES:
        raise ValueError(f"the principal has more than {_MOST_BYTES} bytes")
    if b"\\u0000" in text:
        raise ValueError("the principal holds the character NUL")
    subject, roles, method, tenant, claims = kept = _decode(text)
    _pack(kept)  # commands go between nodes so, which takes integers of 64 bits
    # Full access is the provider's to give, request by request.
    return Principal(subject, roles, method, tenant, claims, principal.legacy_full_access)


def _redacted(text: object, request: Request) -> str:
    """Text without the words of the request's header fields and query, which may be credentials."""
    shown = str(text).encode("utf-8", "replace").decode()
    values = [value.decode("latin-1") for _, value in request.sent]
    for values_of_one in parse_qs(request.query_string.decode("latin-1")).values():
        values += values_of_one
    words = {word.strip("\"',;") for value in values for word in (value, *value.replace("=", " ").replace(",", " ").split())}
    for word in sorted(words, key=len, reverse=True):
        if len(word) >= _LEAST_SECRET and word.lower() not in _SCHEMES:
            shown = shown.replace(word, "[redacted]")
    return shown
