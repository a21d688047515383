"""Namespaces (control-plane 4)."""

from __future__ import annotations

import re
from typing import Any

from api.http.call import Answer, Call
from api.http.errors import ApiError
from api.http.fields import Fields
from api.http.searching import searched
from api.http.times import ts0
from store import namespaces
from store.namespaces import Namespace

_NAME = re.compile(r"[a-zA-Z0-9._-]+\Z")


def _resource(namespace: Namespace) -> dict[str, Any]:
    return {
        "name": namespace.name,
        "description": namespace.description,
        "retention_days": namespace.retention_days,
        "status": namespace.status,
        "external_payload_storage": namespace.external_payload_storage,
        "created_at": ts0(namespace.created_at),
        "updated_at": ts0(namespace.updated_at),
    }


def _not_found(name: str) -> ApiError:
    return ApiError(404, "namespace_not_found", f"Namespace [{name}] not found.", namespace=name)


async def index(call: Call) -> Answer:
    """GET /api/namespaces: all of them, in creation order."""
    found = await searched(namespaces.listing(call.services.searches))
    return Answer(200, {"namespaces": [_resource(namespace) for namespace in found]})


async def show(call: Call) -> Answer:
    """GET /api/namespaces/{namespace}."""
    name = call.path["namespace"].lower()
    namespace = await namespaces.get(call.services.db, name)
    if namespace is None:
        raise _not_found(name)
    return Answer(200, _resource(namespace))


def _read_new(call: Call) -> tuple[str, str | None, int | None]:
    fields = call.fields()
    name = fields.identifier("name", required=True, longest=128, pattern=_NAME) or ""
    description, days = _described(fields)
    fields.check()
    return name.lower(), description, days


def _described(fields: Fields) -> tuple[str | None, int | None]:
    return fields.text("description", longest=1000), fields.integer("retention_days", low=1, high=365)


def _read_change(call: Call) -> tuple[str | None, int | None]:
    fields = call.fields()
    change = _described(fields)
    fields.check()
    return change


async def store(call: Call) -> Answer:
    """POST /api/namespaces."""
    name, description, days = await call.read(_read_new)
    default_days = call.services.settings.history_retention_days
    db = call.services.db
    if not await namespaces.create(db, name, description, days or default_days, call.services.clock.now()):
        raise ApiError(409, "namespace_already_exists", "Namespace already exists.", namespace=name)
    call.services.namespaces.forget(name)
    namespace = await namespaces.get(db, name)
    if namespace is None:
        raise _not_found(name)
    return Answer(201, _resource(namespace))


async def update(call: Call) -> Answer:
    """PUT /api/namespaces/{namespace}: null or absent fields keep their value."""
    name = call.path["namespace"].lower()
    db = call.services.db
    if await namespaces.get(db, name) is None:
        raise _not_found(name)
    description, days = await call.read(_read_change)
    namespace = await namespaces.update(db, name, description, days, call.services.clock.now())
    if namespace is None:
        raise _not_found(name)
    return Answer(200, _resource(namespace))
