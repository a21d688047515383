"""Namespaces (control-plane 4)."""

from __future__ import annotations

import re
from typing import Any

from api.http.errors import ApiError
from api.http.input.fields import Fields
from api.http.request import Request
from api.http.response import Response
from api.http.searching import searched
from api.http.times import ts0
from store import namespaces
from store.namespaces import Namespace

_NAME = re.compile(r"[a-zA-Z0-9._-]+\Z")


def resource(namespace: Namespace) -> dict[str, Any]:
    """A namespace as it is shown."""
    return {
        "name": namespace.name,
        "description": namespace.description,
        "retention_days": namespace.retention_days,
        "status": namespace.status,
        "external_payload_storage": namespace.external_payload_storage,
        "created_at": ts0(namespace.created_at),
        "updated_at": ts0(namespace.updated_at),
    }


def not_found(name: str) -> ApiError:
    """404 for a namespace that is not there."""
    return ApiError(404, "namespace_not_found", f"Namespace [{name}] not found.", namespace=name)


async def list_(request: Request) -> Response:
    """GET /api/namespaces: all of them, in creation order."""
    found = await searched(namespaces.listing(request.services.searches))
    return Response(200, {"namespaces": [resource(namespace) for namespace in found]})


async def describe(request: Request) -> Response:
    """GET /api/namespaces/{namespace}."""
    name = request.path["namespace"].lower()
    namespace = await namespaces.get(request.services.db, name)
    if namespace is None:
        raise not_found(name)
    return Response(200, resource(namespace))


def _read_new(request: Request) -> tuple[str, str | None, int | None]:
    fields = request.fields()
    name = fields.identifier("name", required=True, longest=128, pattern=_NAME) or ""
    description, days = _described(fields)
    fields.check()
    return name.lower(), description, days


def _described(fields: Fields) -> tuple[str | None, int | None]:
    return fields.text("description", longest=1000), fields.integer("retention_days", low=1, high=365)


def _read_change(request: Request) -> tuple[str | None, int | None]:
    fields = request.fields()
    change = _described(fields)
    fields.check()
    return change


async def delete(request: Request) -> Response:
    """DELETE /api/namespaces/{namespace}: with everything in it, open runs included."""
    name = request.path["namespace"].lower()
    services = request.services
    if name == services.settings.default_namespace.lower():
        text = f"Namespace [{name}] is the default namespace and cannot be deleted."
        raise ApiError(409, "default_namespace_protected", text, namespace=name)
    # No other name is ever stored, and not all texts can be asked for.
    removal = services.removal if _NAME.match(name) else None
    deleted = None if removal is None else await removal.delete(name)
    if deleted is None:
        raise not_found(name)
    return Response(200, {"name": name, "status": "deleted", "deleted": deleted})


async def create(request: Request) -> Response:
    """POST /api/namespaces."""
    name, description, days = await request.read(_read_new)
    default_days = request.services.settings.history_retention_days
    db = request.services.db
    if not await namespaces.create(db, name, description, days or default_days, request.services.clock.now()):
        raise ApiError(409, "namespace_already_exists", "Namespace already exists.", namespace=name)
    request.services.namespaces.forget(name)
    namespace = await namespaces.get(db, name)
    if namespace is None:
        raise not_found(name)
    return Response(201, resource(namespace))


async def update(request: Request) -> Response:
    """PUT /api/namespaces/{namespace}: null or absent fields keep their value."""
    name = request.path["namespace"].lower()
    db = request.services.db
    if await namespaces.get(db, name) is None:
        raise not_found(name)
    description, days = await request.read(_read_change)
    namespace = await namespaces.update(db, name, description, days, request.services.clock.now())
    if namespace is None:
        raise not_found(name)
    return Response(200, resource(namespace))
