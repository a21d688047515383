"""What a provider is told of the thing a request is about (configuration-and-security 3.3).

Made of the request alone: nothing of it is known to exist, and no database is asked.
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from api.http.access.operations import OPERATIONS, Operation
from api.http.input.json_text import plain
from api.http.request import Request
from api.http.route import Route

# Found in the URL, else in the body or the query.
_ANYWHERE = (
    "activity_attempt_id",
    "build_id",
    "lease_owner",
    "poll_request_id",
    "query_task_attempt",
    "runtime",
    "task_queue",
    "worker_id",
    "workflow_id",
    "workflow_task_attempt",
    "workflow_type",
)
_OF_THE_URL = ("query_task_id", "run_id", "schedule_id", "signal_name", "task_id", "update_name", "query_name")

_NO_OPERATION = Operation(None, "")
_PARAMETER = re.compile(r"\{(\w+)\}")


def resource_of(route: Route, request: Request, namespace: str) -> dict[str, Any]:
    """The resource of `authorize`, without what the request does not have.

    `namespace`: the requested one, lower-cased. The body of `request` has been read.
    """
    operation = OPERATIONS.get((route.method, route.template), _NO_OPERATION)
    path, family = request.path, operation.family
    body = request.body
    query = dict(parse_qsl(request.query_string.decode("latin-1"))) if request.query_string else {}
    found: dict[str, Any] = {
        "allowed_roles": list(route.roles or ()),
        "method": request.method,
        "path": request.url_path,
        "route_uri": uri_of(route.template),
        "route_parameters": dict(path),
        "operation_family": family,
        "operation_name": operation.name,
        "default_namespace": request.services.settings.default_namespace.lower(),
        "requested_namespace": namespace,
        "namespace": namespace,
    }
    for name in _ANYWHERE:
        sent = (path.get(name), plain(body.get(name)), query.get(name))
        found[name] = next((value for value in map(_scalar, sent) if value is not None), None)
    for name in _OF_THE_URL:
        found[name] = _scalar(path.get(name))
    if family == "namespace":
        named = _scalar(path.get("namespace")) or _scalar(plain(body.get("name")))
        found["target_namespace"] = found["namespace_name"] = named.lower() if isinstance(named, str) else None
    elif family == "search_attribute":
        found["search_attribute_name"] = _scalar(path.get("name"))
    elif family == "activity":
        found["activity_id"] = _scalar(path.get("activity_id"))
    return {name: value for name, value in found.items() if value not in (None, "", [], {})}


def uri_of(template: str) -> str:
    """A route's path as the contract writes it: `api/workflows/{workflowId}`."""
    return "api" + _PARAMETER.sub(lambda found: "{" + _camel(found[1]) + "}", template)


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(other.capitalize() for other in others)


def _scalar(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip() or None
    return value if isinstance(value, bool | int | float) else None
