"""Providers of authentication, good and bad ones, named by their import paths in tests."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Mapping
from typing import Any

from durable_workflow_server.auth import AuthError, AuthProvider, AuthRequest, Principal

SAID: dict[str, Any] = {}
"""What `Scripted` does next: `authenticate` and `authorize` are functions of its arguments."""

SEEN: list[tuple[Any, ...]] = []
"""What it was asked, and in which thread."""

HIDDEN = "hunter2-planted-secret"


def scripted(authenticate: Any = None, authorize: Any = True) -> None:
    """Say what the scripted providers do next."""
    SEEN.clear()
    SAID.update(authenticate=authenticate or Principal("ann", ["operator"], "word"), authorize=authorize)


def _done(what: Any, *arguments: Any) -> Any:
    said = SAID[what]
    SEEN.append((what, *arguments, threading.current_thread() is threading.main_thread()))
    if isinstance(said, BaseException):
        raise said
    return said(*arguments) if callable(said) else said


class Scripted:
    """Does as told, in threads."""

    def authenticate(self, request: AuthRequest) -> Any:
        return _done("authenticate", request)

    def authorize(self, principal: Principal, action: str, resource: Mapping[str, Any]) -> Any:
        return _done("authorize", principal, action, resource)


class ScriptedAsync:
    """Does as told, on the loop."""

    async def authenticate(self, request: AuthRequest) -> Any:
        return _done("authenticate", request)

    async def authorize(self, principal: Principal, action: str, resource: Mapping[str, Any]) -> Any:
        return _done("authorize", principal, action, resource)


class Awaiting(Scripted):
    """Plain methods that return awaitables."""

    def authenticate(self, request: AuthRequest) -> Any:
        return asyncio.sleep(0, _done("authenticate", request))


class Slow:
    """Sleeps where the caller's name says so: `async`, or `block` a thread."""

    async def authenticate(self, request: AuthRequest) -> Principal:
        if request.headers.get("x-name") == "async":
            await asyncio.sleep(30)
        return Principal(request.headers.get("x-name", "nobody"), ["operator"])

    def authorize(self, principal: Principal, action: str, resource: Mapping[str, Any]) -> bool:
        if principal.subject == "block":
            time.sleep(3)
        return True


class Stuck(Scripted):
    """Never answers."""

    def authenticate(self, request: AuthRequest) -> Any:
        threading.Event().wait()


class Keyring(AuthProvider):
    """For a whole server: the bearer token is a JSON object that says who it is; a broken one raises what it holds."""

    async def authenticate(self, request: AuthRequest) -> Principal | None:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if not token:
            return None
        if "refuse" in token:
            raise AuthError.unauthenticated(f"refused: {token}")
        if "break" in token:
            raise RuntimeError(f"cannot read {token}")
        return Principal(**json.loads(token))

    async def authorize(self, principal: Principal, action: str, resource: Mapping[str, Any]) -> bool:
        return bool(set(principal.roles) & set(resource["allowed_roles"]))


class Unmade(Scripted):
    def __init__(self) -> None:
        raise ValueError(HIDDEN)


class HalfMade(AuthProvider):
    def authenticate(self, request: AuthRequest) -> Principal:
        return Principal("anybody")


NO_CLASS = object()
