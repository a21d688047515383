"""Who caused a command, as its snapshot in history keeps it (configuration-and-security 5)."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

import msgspec

from api.http.input.offload import LONG
from api.http.request import Request
from api.settings import AttributionSettings
from durable_workflow_server.auth import Principal

_encode = msgspec.json.Encoder().encode
_canonical = msgspec.json.Encoder(order="sorted").encode

_TYPE = "server"
_LABEL = "Standalone Server"
_LONGEST = 255  # characters kept of a header


class _Cause(NamedTuple):
    """What both forms of an attribution are made of. `auth`: None for nobody."""

    caller_label: str
    auth_status: str
    auth_method: str
    auth: dict[str, Any] | None
    request_id: str | None
    correlation_id: str | None
    fingerprint: str


def _cause(request: Request) -> _Cause:
    settings = request.services.settings.attribution
    principal = request.principal
    method = "none" if principal is None else principal.method
    auth_method = _forwarded(request, settings, settings.method_header) or method
    auth_status = _forwarded(request, settings, settings.status_header)
    if auth_status is None:
        auth_status = "not_configured" if method == "none" else "authorized"
    request_id = request.request_id or _named_in_body(request)
    correlation_id = _header(request, b"x-correlation-id")
    return _Cause(
        caller_label=_forwarded(request, settings, settings.label_header) or _LABEL,
        auth_status=auth_status,
        auth_method=auth_method,
        auth=None if principal is None else _auth(principal, auth_status, auth_method),
        request_id=request_id,
        correlation_id=correlation_id,
        fingerprint=_fingerprint(request, request_id, correlation_id),
    )


def attribution(request: Request) -> dict[str, Any]:
    """The caller's and the request's part of a command's snapshot; blank values are left out."""
    cause = _cause(request)
    keys = {
        "caller_label": cause.caller_label,
        "auth_status": cause.auth_status,
        "auth_method": cause.auth_method,
        "request_method": request.method,
        "request_path": request.url_path,
        "request_fingerprint": cause.fingerprint,
        "request_id": cause.request_id,
        "correlation_id": cause.correlation_id,
        "context": None if cause.auth is None else {"auth": cause.auth},
    }
    return _filled(keys)


class CommandContext:
    """The whole `command_context` of the events of a schedule (operations 1.11): who asked, and by which request."""

    def __init__(self, request: Request, subject: str) -> None:
        """`subject`: what is named as `server.workflow_id`, the schedule id."""
        settings = request.services.settings.attribution
        cause = _cause(request)
        headers = _filled({"x_request_id": request.request_id, "x_correlation_id": cause.correlation_id})
        asked = {
            "method": request.method,
            "path": request.url_path,
            "request_id": cause.request_id,
            "correlation_id": cause.correlation_id,
            "fingerprint": cause.fingerprint,
            "headers": headers or None,
        }
        caller_type = _forwarded(request, settings, settings.type_header) or _TYPE
        self._context = {
            "caller": {"type": caller_type, "label": cause.caller_label},
            "auth": cause.auth or {"status": cause.auth_status, "method": cause.auth_method},
            "request": _filled(asked),
        }
        self._server = {"namespace": request.namespace, "workflow_id": subject}

    def of(self, command: str) -> bytes:
        """The context of one command, `schedule.create` for example, as JSON text."""
        server = {**self._server, "command": command, "metadata": {}}
        return _encode({"source": "control_plane", "context": {**self._context, "server": server}})


def _filled(keys: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in keys.items() if value is not None}


def _header(request: Request, name: bytes) -> str | None:
    value = request.headers.get(name, b"").decode("latin-1").strip()
    return value[:_LONGEST] or None


def _named_in_body(request: Request) -> str | None:
    value = request.fields().get("request_id")
    return value.strip()[:_LONGEST] or None if isinstance(value, str) else None


def _forwarded(request: Request, settings: AttributionSettings, name: bytes) -> str | None:
    return _header(request, name) if settings.trusted and name else None


def _fingerprint(request: Request, request_id: str | None, correlation_id: str | None) -> str:
    """The same for the same request sent again; a short one may have its fields in another order."""
    short = len(request.text) <= LONG and isinstance(request.body, dict)
    said = [request.method, request.url_path, request.body if short else None, request_id, correlation_id]
    digest = hashlib.sha256(_canonical(said))
    if not short:
        digest.update(request.text)
    return "sha256:" + digest.hexdigest()


def _auth(principal: Principal, status: str, method: str) -> dict[str, Any]:
    who: dict[str, Any] = {"subject": principal.subject, "roles": list(principal.roles), "claims": principal.claims}
    if principal.tenant is not None:
        who["tenant"] = principal.tenant
    if principal.legacy_full_access:
        who["legacy_full_access"] = True
    return {
        "status": status,
        "method": method,
        "role": principal.roles[0] if principal.roles else None,
        "roles": list(principal.roles),
        "principal": {name: value for name, value in who.items() if value},
    }
