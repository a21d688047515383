"""Routes that answer what they were asked, and the credentials for them."""

from __future__ import annotations

from api.http.request import Request
from api.http.response import Response
from api.http.route import ADMINS, ALL, OPERATORS, WORKER, WORKER_ROLE, Route
from api.routes import ROUTES
from tests.support.defaults import make_auth

TOKENS = make_auth(tokens={"worker": "w-token", "operator": "o-token", "admin": "a-token"})

WORKER_TOKEN = {"Authorization": "Bearer w-token"}

OPERATOR = {"Authorization": "Bearer o-token"}

JSON = {"Content-Type": "application/json"}


async def echo(request: Request) -> Response:
    """Answers what the endpoint was given."""
    return Response(
        200,
        {
            "namespace": request.namespace,
            "path": request.path,
            "query": request.query(),
            "body": request.body,
            "big": "x" * 900,
        },
    )


async def broken(request: Request) -> Response:
    raise RuntimeError("secret text")


ECHO_ROUTES = [
    *ROUTES,
    Route("POST", "/echo/{name}", echo, OPERATORS),
    Route("GET", "/echo/{name}", echo, OPERATORS),
    Route("POST", "/worker/echo", echo, WORKER_ROLE, plane=WORKER),
    Route("GET", "/broken", broken, ALL),
    Route("GET", "/worker/broken", broken, WORKER_ROLE, plane=WORKER),
    Route("POST", "/only-admin", echo, ADMINS),
]


def merged(*parts: dict[str, str]) -> dict[str, str]:
    return {key: value for part in parts for key, value in part.items()}
