"""Definitions of search attributes: list, create and delete (control-plane 8)."""

from __future__ import annotations

import re

from actors.visibility.values import CUSTOM_TYPES, SYSTEM_ATTRIBUTES
from api.http.errors import ApiError
from api.http.request import Request
from api.http.response import Response
from api.http.searching import searched
from store import search_attributes

_NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9_]*\Z")
_LONGEST_NAME = 128


async def list_(request: Request) -> Response:
    """GET /api/search-attributes: what every run has, and what this namespace defines."""
    found = await searched(search_attributes.definitions(request.services.searches, request.namespace))
    return Response(200, {"system_attributes": SYSTEM_ATTRIBUTES, "custom_attributes": found})


def _read(request: Request) -> tuple[str, str]:
    fields = request.fields()
    name = fields.required_text("name", longest=_LONGEST_NAME, pattern=_NAME)
    kind = fields.choice("type", CUSTOM_TYPES)
    if kind is None and "type" not in fields.errors:
        fields.missing("type")
    fields.check()
    return name, kind or ""


async def create(request: Request) -> Response:
    """POST /api/search-attributes."""
    name, kind = await request.read(_read)
    if name in SYSTEM_ATTRIBUTES:
        raise ApiError(409, "name_reserved", f"The search attribute [{name}] is a system attribute.", name=name)
    services = request.services
    most = services.settings.limits.request.max_search_attributes
    known = await search_attributes.define(services.db, request.namespace, name, kind, most, services.clock.now())
    if known:
        text = f"The search attribute [{name}] exists already."
        raise ApiError(409, "attribute_already_exists", text, name=name, type=known)
    if known is not None:
        text = f"The namespace must not define more than {most} search attributes."
        raise ApiError(422, "search_attribute_limit_reached", text, limit=most)
    services.attribute_types.forget(request.namespace)
    return Response(201, {"name": name, "type": kind, "outcome": "created"})


async def delete(request: Request) -> Response:
    """DELETE /api/search-attributes/{name}: values on runs stay as they are."""
    name = request.path["name"]
    if name in SYSTEM_ATTRIBUTES:
        text = f"The search attribute [{name}] is a system attribute and cannot be deleted."
        raise ApiError(409, "system_attribute", text, name=name)
    services = request.services
    # No other name is ever defined, and not all texts can be asked for.
    defined = _NAME.match(name) is not None and await search_attributes.remove(services.db, request.namespace, name)
    if not defined:
        raise ApiError(404, "attribute_not_found", f"The search attribute [{name}] is not defined.", name=name)
    services.attribute_types.forget(request.namespace)
    return Response(200, {"name": name, "outcome": "deleted"})
