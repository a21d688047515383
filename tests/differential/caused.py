"""The attribution of the driver's own commands, as the server's edge makes it (configuration-and-security 5)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from api.http.attribution import attribution
from api.http.request import Request
from api.http.services import Services
from durable_workflow_server.auth import Principal
from tests.support.defaults import make_settings

WHO = Principal("legacy-token", ("admin",), "token", legacy_full_access=True, claims={"legacy_credential": True})
_SERVICES = cast(Services, SimpleNamespace(settings=make_settings()))


async def _nothing() -> None:
    """These calls have no body left to receive."""


def caused_by(path: str, body: dict[str, Any]) -> dict[str, Any]:
    """What the server notes of a POST with the test token and no header that names it."""
    request = Request(
        _SERVICES, {"method": "POST", "path": path, "http_version": "1.1", "query_string": b"", "headers": []}, _nothing
    )
    request.namespace, request.principal, request.body = "default", WHO, body
    return attribution(request)
