"""The provider of `examples/jwt_provider.py` at a running server: which tokens it takes, and for what."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from durable_workflow import Client

from tests.support.server import ServerProcess
from tests.support.services import TestServices

EXAMPLES = Path(__file__).parents[2] / "examples"
KEY = "a-secret-that-issuer-and-server-share-and-nobody-else-0123456789-abcdef"
VERSIONS = {"X-Durable-Workflow-Control-Plane-Version": "2", "X-Durable-Workflow-Protocol-Version": "1.1"}


def token(key: str = KEY, algorithm: str = "HS256", **changes: Any) -> str:
    """A token of ann, an operator, with other claims; None takes one out."""
    claims: dict[str, Any] = {
        "sub": "ann",
        "iss": "https://issuer.example",
        "aud": "workflows",
        "exp": time.time() + 600,
        "roles": ["operator"],
        "tenant": "acme",
        **changes,
    }
    return jwt.encode({name: value for name, value in claims.items() if value is not None}, key, algorithm)


@pytest.fixture(scope="module")
def server(services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    environment = {
        "PYTHONPATH": str(EXAMPLES),
        "DW_AUTH_PROVIDER": "jwt_provider:JwtProvider",
        "JWT_KEY": KEY,
        "JWT_ISSUER": "https://issuer.example",
        "JWT_AUDIENCE": "workflows",
    }
    process = ServerProcess(services.deployment(), tmp_path_factory.mktemp("jwt"), env=environment)
    try:
        yield process.start()
    finally:
        process.stop()


async def status(server: ServerProcess, method: str, path: str, shown: str | None, namespace: str = "default") -> int:
    headers = {**VERSIONS, "X-Namespace": namespace, **({"Authorization": f"Bearer {shown}"} if shown else {})}
    async with httpx.AsyncClient(base_url=server.url, timeout=30) as client:
        return (await client.request(method, f"/api{path}", headers=headers)).status_code


async def test_only_tokens_of_the_issuer_are_taken(server: ServerProcess) -> None:
    other_key = "some-other-secret-that-is-just-as-long-as-the-one-above-0123456789-abc"
    refused = [
        None,
        "not.a.token",
        token(key=other_key),
        token(algorithm="HS512"),
        jwt.encode({"sub": "ann", "exp": time.time() + 600}, "", algorithm="none"),
        token(exp=time.time() - 60),
        token(exp=None),
        token(sub=None),
        token(iss="https://elsewhere.example"),
        token(aud="something else"),
    ]
    for shown in refused:
        assert await status(server, "GET", "/workflows", shown) == 401, shown
    assert await status(server, "GET", "/workflows", token()) == 200


async def test_roles_and_namespaces_are_those_of_the_token(server: ServerProcess) -> None:
    assert await status(server, "POST", "/worker/register", token()) == 403
    assert await status(server, "POST", "/worker/register", token(roles=["worker"])) == 422
    assert await status(server, "GET", "/system/metrics", token()) == 403
    assert await status(server, "GET", "/workflows", token(roles=None)) == 403
    ours = token(namespaces=["default"])
    assert await status(server, "GET", "/workflows", ours) == 200
    assert await status(server, "GET", "/workflows", ours, "lab") == 403
    assert await status(server, "GET", "/namespaces/default", ours) == 200
    assert await status(server, "GET", "/namespaces/lab", ours) == 403
    assert await status(server, "GET", "/namespaces/lab", token()) == 404


async def test_the_sdk_shows_such_a_token_as_any_other(server: ServerProcess) -> None:
    async with Client(server.url, token=token(), namespace="default") as client:
        handle = await client.start_workflow(workflow_type="order", task_queue="jwt", workflow_id="jwt-1", input=[])
    headers = {**VERSIONS, "Authorization": f"Bearer {token()}"}
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30) as plain:
        path = f"/api/workflows/jwt-1/runs/{handle.run_id}/history"
        (first, *_) = (await plain.get(path)).json()["events"]
    who = first["payload"]["command"]["context"]["auth"]
    assert (who["method"], who["role"]) == ("jwt", "operator")
    assert who["principal"] == {
        "subject": "ann",
        "roles": ["operator"],
        "tenant": "acme",
        "claims": {"iss": "https://issuer.example"},
    }
