"""What may be answered to a request, however wrong it is: documented statuses, the plane's envelope, well-formed JSON.

Contract: control-plane 1.7 and 2, worker-protocol 2.4, configuration-and-security 1.
"""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

from api.http.envelope import RESPONSE_SCHEMA
from api.http.route import Route, plane_of
from api.routes import ROUTES
from tests.soak.message import CONTROL_FIELD, WORKER_FIELD, Request
from tests.soak.wire import Answer

# Answers of the HTTP server itself: they know no plane and end the connection.
EDGE = {
    400: "malformed_request",
    408: "request_timeout",
    414: "uri_too_long",
    431: "header_fields_too_large",
    501: "not_implemented",
    505: "http_version_not_supported",
}
PIPELINE = {400, 401, 403, 404, 405, 413, 415, 422}
# A saturated or slow machine may answer so; nothing else of 503 may happen while database and bus are there.
BUSY = {"search_capacity_exhausted", "search_timeout"}

_TARGETED = {"signal": {202, 409}, "query": {200, 409, 429, 504}, "update": {200, 202, 409}}
_TARGETED |= {name: {200, 409} for name in ("cancel", "terminate", "repair", "archive")}
_CREATED = {"/workflows": {200, 201, 409}, "/namespaces": {201, 409}, "/worker/register": {201, 409}}
_CREATED |= {"/schedules": {201, 409}, "/namespaces/{namespace}": {200, 409}, "/activities": {200, 201, 202, 409}}
_CREATED |= {"/bridge-adapters/webhook/{adapter}": {200, 202}}
_CREATED |= {f"/system/{name}/pass": {200, 207} for name in ("repair", "retention", "activity-timeouts")}
_CREATED |= {"/search-attributes": {201, 409}, "/search-attributes/{name}": {200, 409}}


def outcomes(route: Route) -> set[int]:
    """The statuses of a route besides those of the pipeline."""
    if route.method in ("POST", "DELETE") and route.template in _CREATED:
        return _CREATED[route.template]
    if route.operation in _TARGETED:
        return _TARGETED[route.operation]
    if route.template.endswith("/poll"):
        return {200, 409, 412}
    if route.template.startswith("/worker/"):
        return {200, 409}
    return {200}


class Fault(Exception):
    """An answer that the contract does not allow."""


def judge(request: Request, answer: Answer) -> Any:
    """The value of the answer's body. Raises Fault."""
    status = answer.status
    if request.method == "HEAD":
        _check(not answer.body, "HEAD has a body")
        _check(status < 500 or status in EDGE, f"status {status}")
        return None
    body = _value(answer)
    _check(answer.headers.get("content-type") == "application/json", "media type")
    _check(isinstance(body, dict), "the body is no object")
    reason = body.get("reason")
    if WORKER_FIELD.lower() not in answer.headers and CONTROL_FIELD.lower() not in answer.headers and status >= 400:
        _check(EDGE.get(status) == reason, f"{status} {reason} without an envelope")
        _check(answer.headers.get("connection") == "close", "the edge refused and kept the connection")
        return None
    route = served(request)
    allowed = PIPELINE | (outcomes(route) if route is not None else _ANY)
    if status == 504:
        _check(reason == "query_worker_timeout", f"504 {reason}")
    if status == 503 and reason in BUSY:
        return None
    _check(status in allowed, f"undocumented status {status} {reason}")
    if status >= 400:
        # What a worker lost has fields instead of a text.
        _check(isinstance(reason, str) and bool(reason), "no reason")
        _check(isinstance(body.get("message", body.get("error", "")), str), "text")
    if status == 422 and reason == "validation_failed":
        _check(isinstance(body.get("errors"), dict) and body["errors"] == body.get("validation_errors"), "validation errors")
    _check_plane(request, route, answer, body)
    return body


def _check_plane(request: Request, route: Route | None, answer: Answer, body: dict[str, Any]) -> None:
    target = request.target.partition("?")[0]
    plane = route.plane if route is not None else plane_of(target)
    if plane == "worker":
        _check(body.get("protocol_version") == answer.headers.get(WORKER_FIELD.lower()), "protocol version")
        _check(isinstance(body.get("server_capabilities"), dict), "server capabilities")
    elif route is not None:
        expected = "2" if route.versioned or answer.status >= 400 else None
        _check(answer.headers.get(CONTROL_FIELD.lower()) == expected, "control-plane version")
        if route.operation is not None:
            control = body.get("control_plane") or {}
            _check(control.get("schema") == RESPONSE_SCHEMA and control.get("operation") == route.operation, "control_plane")


_ANY = set().union(*map(outcomes, ROUTES))
_SERVED = {(route.method, route.template): route for route in ROUTES}


def served(request: Request) -> Route | None:
    """The route that must answer a request, None when its path or method leads elsewhere or nowhere."""
    if request.path is not None or any(not value or set("/?#\\") & set(value) for value in request.params.values()):
        return None
    return _SERVED.get((request.method, request.route.template))


def _value(answer: Answer) -> Any:
    body = answer.body
    encoding = answer.headers.get("content-encoding")
    if encoding == "gzip":
        body = gzip.decompress(body)
    elif encoding == "deflate":
        body = zlib.decompress(body, -15)  # raw, as documented
    else:
        _check(encoding is None, f"content encoding {encoding}")
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise Fault(f"the body is no JSON: {error}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _check(holds: bool, text: str) -> None:
    if not holds:
        raise Fault(text)
