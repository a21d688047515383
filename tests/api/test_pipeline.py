"""The request pipeline: stages in their order, envelopes of both planes, nothing stored by refused requests."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.http.envelope import CONTRACT, PROJECTED_FIELDS
from api.settings import AuthSettings
from base.observability.metrics import Instrument, Labels, NoMetrics
from store.connections.pool import Database
from tests.api.conftest import CONTROL, Api, services_for, serving
from tests.api.conftest import WORKER as WORKER_HEADERS
from tests.api.echo import (
    ECHO_ROUTES,
    JSON,
    OPERATOR,
    TOKENS,
    WORKER_TOKEN,
    merged,
)
from tests.support.defaults import make_auth, make_rules, make_settings

SETTINGS = make_settings(auth=TOKENS, rules=make_rules(max_payload_bytes=2000))

ADMIN = {"Authorization": "Bearer a-token"}


async def post(client: httpx.AsyncClient, path: str, content: bytes | str = b"{}", **headers: str) -> httpx.Response:
    return await client.post(path, content=content, headers=headers)


# Each case fails at one stage and at every later one: the earliest has to answer.
BAD_EVERYWHERE: list[tuple[str, dict[str, str], bytes, int, str]] = [
    ("size", {"Content-Type": "text/plain", "X-Namespace": "nowhere"}, b"{" * 3000, 413, "payload_too_large"),
    ("media", {"Content-Type": "text/plain", "X-Namespace": "nowhere"}, b"{oops", 415, "unsupported_media_type"),
    ("json", {**JSON, "X-Namespace": "nowhere"}, b"{oops", 400, "malformed_json"),
    ("auth", {**JSON, "X-Namespace": "nowhere"}, b"{}", 401, "unauthorized"),
    ("role", {**JSON, "X-Namespace": "nowhere", "Authorization": "Bearer {wrong}"}, b"{}", 403, "forbidden"),
    ("version", {**JSON, "X-Namespace": "nowhere", "Authorization": "Bearer {right}"}, b"{}", 400, "missing"),
    ("namespace", {**JSON, "X-Namespace": "nowhere", "Authorization": "Bearer {right}", "version": "ok"}, b"{}", 404, ""),
]


@pytest.mark.parametrize("plane", ["control", "worker"])
async def test_stages_answer_in_their_order(api: Api, plane: str) -> None:
    control = plane == "control"
    path = "/api/workflows" if control else "/api/worker/register"
    right, wrong = ("o-token", "w-token") if control else ("w-token", "a-token")
    version_header, other_header = list(CONTROL), list(WORKER_HEADERS)
    if not control:
        version_header, other_header = other_header, version_header
    async with api(SETTINGS) as client:
        for name, given, content, status, reason in BAD_EVERYWHERE:
            headers = {key: value.format(right=right, wrong=wrong) for key, value in given.items()}
            if headers.pop("version", None):
                headers |= CONTROL if control else WORKER_HEADERS
            response = await client.post(path, content=content, headers=headers)
            body = response.json()
            assert response.status_code == status, (name, body)
            assert reason in body["reason"], name
            assert version_header[0] in response.headers, name
            assert other_header[0] not in response.headers, name
            assert response.headers["content-type"] == "application/json", name
            assert ("server_capabilities" in body) is (not control), name
            assert ("control_plane" in body) is control, name
            assert "server" not in response.headers


async def test_errors_have_their_fields(api: Api) -> None:
    async with api(SETTINGS) as client:
        ready = merged(OPERATOR, JSON)
        body = (await post(client, "/api/workflows", b"{" * 3000, **ready)).json()
        assert body["limit"] == 2000
        assert "2000" in body["message"]
        body = (await post(client, "/api/workflows", b"{}", **OPERATOR)).json()
        assert body["accepted_content_types"] == ["application/json", "application/*+json"]
        body = (await post(client, "/api/workflows", b"{'a'}", **ready)).json()
        assert body["json_error"]
        response = await client.get("/api/workflows", headers=WORKER_TOKEN)
        assert response.json()["role"] == "worker"
        assert response.json()["allowed_roles"] == ["operator", "admin"]
        body = (await client.get("/api/workflows", headers=OPERATOR)).json()
        assert (body["reason"], body["supported_version"], body["requested_version"]) == (
            "missing_control_plane_version",
            "2",
            None,
        )
        assert body["remediation"]
        headers = merged(OPERATOR, {"X-Durable-Workflow-Control-Plane-Version": "3"})
        body = (await client.get("/api/workflows", headers=headers)).json()
        assert (body["reason"], body["requested_version"]) == ("unsupported_control_plane_version", "3")
        headers = merged(OPERATOR, CONTROL, {"X-Namespace": "Lab"})
        body = (await client.get("/api/workflows", headers=headers)).json()
        assert (body["reason"], body["namespace"]) == ("namespace_not_found", "lab")
        assert "does not exist" in body["message"]
        headers["X-Namespace"] = ""
        assert (await client.get("/api/workflows", headers=headers)).json()["namespace"] == ""


async def test_role_is_checked_before_the_namespace_and_tells_nothing_of_it(api: Api) -> None:
    async with api(SETTINGS) as client:
        bodies = [
            (await client.get("/api/workers", headers=merged(WORKER_TOKEN, {"X-Namespace": name}))).text
            for name in ("default", "nowhere")
        ]
        assert bodies[0] == bodies[1]


async def test_unknown_routes_and_methods(api: Api) -> None:
    async with api(SETTINGS) as client:
        response = await client.get("/api/nothing/here")
        assert (response.status_code, response.json()["reason"]) == (404, "not_found")
        assert response.headers["x-durable-workflow-control-plane-version"] == "2"
        response = await client.get("/api/worker/nothing")
        assert (response.status_code, response.json()["reason"]) == (404, "not_found")
        assert response.json()["protocol_version"] == "1.1"
        response = await client.delete("/api/workflows")
        assert (response.status_code, response.json()["reason"]) == (405, "method_not_allowed")
        assert response.headers["allow"] == "GET, HEAD, POST"
        for method in ("OPTIONS", "PATCH", "PROPFIND"):
            response = await client.request(method, "/api/workflows")
            assert (response.status_code, response.headers["allow"]) == (405, "GET, HEAD, POST"), method
            assert response.json()["reason"] == "method_not_allowed"
        response = await client.get("/api/worker/register")
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
        for path in ("/api/workflows/w/runs/r/repair", "/api/workflows/w/runs/r/archive", "/api/services"):
            assert (await client.post(path, headers=OPERATOR)).status_code == 404


@pytest.mark.parametrize(
    ("content_type", "content", "status"),
    [
        ("application/json; charset=utf-8", b"{}", 200),
        ("APPLICATION/JSON", b"{}", 200),
        ("application/vnd.x+json", b"{}", 200),
        ("", b"", 200),
        ("text/plain", b"", 200),
        ("application/jsonx", b"{}", 415),
        ("application/json", b"[]", 200),
        ("application/json", b"7", 200),
        ("application/json", b'{"a":1} x', 400),
        ("application/json", b'{"a":NaN}', 400),
        ("application/json", b'{"a":"\xff"}', 400),
        ("application/json", b'{"a":"\\ud800"}', 400),
        ("application/json", b"[" * 512 + b"]" * 512, 200),
        ("application/json", b"[" * 513 + b"]" * 513, 400),
        ("application/json", b'{"a":"' + b"[" * 600 + b'"}', 200),
    ],
)
async def test_bodies(api: Api, content_type: str, content: bytes, status: int) -> None:
    async with api(SETTINGS, merged(OPERATOR, CONTROL), ECHO_ROUTES) as client:
        headers = {"Content-Type": content_type} if content_type else {}
        response = await client.post("/api/echo/x", content=content, headers=headers)
        assert response.status_code == status, response.text


async def test_sizes_at_the_limit(api: Api) -> None:
    async with api(SETTINGS, merged(OPERATOR, CONTROL, JSON), ECHO_ROUTES) as client:

        async def chunks(size: int) -> Any:
            yield b'{"a":"'
            yield b"x" * (size - 8)
            yield b'"}'

        for size, status in ((2000, 200), (2001, 413)):
            content = b'{"a":"' + b"x" * (size - 8) + b'"}'
            assert (await client.post("/api/echo/x", content=content)).status_code == status
            assert (await client.post("/api/echo/x", content=chunks(size))).status_code == status
        # A body far above the limit, declared or not, is refused and the connection stays usable for the client.
        for content_of in (b"x" * 3_000_000, chunks(3_000_000)):
            assert (await client.post("/api/echo/x", content=content_of)).status_code == 413
        assert (await client.request("GET", "/api/echo/x", content=b"x" * 3000)).status_code == 413
        assert (await client.request("GET", "/api/echo/x", content=b"not json")).status_code == 200


async def test_compressed_request_bodies_are_malformed(api: Api) -> None:
    async with api(SETTINGS, merged(OPERATOR, CONTROL, JSON), ECHO_ROUTES) as client:
        response = await client.post("/api/echo/x", content=gzip.compress(b"{}"), headers={"Content-Encoding": "gzip"})
        assert (response.status_code, response.json()["reason"]) == (400, "malformed_json")


async def test_namespace_resolution(api: Api) -> None:
    async with api(SETTINGS, merged(ADMIN, CONTROL, JSON), ECHO_ROUTES) as client:
        assert (await client.post("/api/namespaces", json={"name": "Lab"})).status_code == 201
        cases: list[tuple[dict[str, str], str, str]] = [
            ({}, "", "default"),
            ({"X-Namespace": "LAB"}, "", "lab"),
            ({}, "?namespace=Lab", "lab"),
            ({}, "?a=1&namespace=la%62", "lab"),
            ({}, "?namespace=&a=1", "default"),
            ({}, "?namespace=+", "default"),
            ({"X-Namespace": "default"}, "?namespace=lab", "default"),
        ]
        for headers, query, expected in cases:
            response = await client.get(f"/api/echo/x{query}", headers=headers)
            assert response.json()["namespace"] == expected
        assert (await client.get("/api/echo/x?namespace=a%00b")).status_code == 404
        response = await client.get("/api/echo/x?namespace=lab", headers={"X-Namespace": ""})
        assert (response.status_code, response.json()["namespace"]) == (404, "")


async def test_path_parameters_are_decoded_once(api: Api) -> None:
    async with api(SETTINGS, merged(ADMIN, CONTROL), ECHO_ROUTES) as client:
        for sent, seen in (("a%2Fb", "a/b"), ("%E2%82%AC", "€"), ("a%2525", "a%25"), ("a.b:c", "a.b:c")):
            response = await client.get(httpx.URL(f"{client.base_url}/api/echo/{sent}"))
            assert response.json()["path"] == {"name": seen}
        assert (await client.get("/api/echo/a%00b")).status_code == 404


async def test_unexpected_errors_keep_the_envelope_and_their_secrets(api: Api) -> None:
    async with api(SETTINGS, CONTROL, ECHO_ROUTES) as client:
        response = await client.get("/api/broken", headers=ADMIN)
        assert (response.status_code, response.json()["reason"]) == (500, "server_error")
        assert "secret" not in response.text
        response = await client.get("/api/worker/broken", headers=merged(WORKER_TOKEN, WORKER_HEADERS))
        assert (response.status_code, response.json()["reason"]) == (500, "server_error")
        assert response.json()["protocol_version"] == "1.0"


async def test_head_is_get_without_a_body(api: Api) -> None:
    async with api(SETTINGS, merged(ADMIN, CONTROL), ECHO_ROUTES) as client:
        get = await client.get("/api/echo/x", headers={"Accept-Encoding": "identity"})
        head = await client.head("/api/echo/x", headers={"Accept-Encoding": "identity"})
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == get.headers["content-length"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        (None, None),
        ("gzip, deflate, br", "gzip"),
        ("deflate", "deflate"),
        ("gzip;q=0.5, deflate", "deflate"),
        ("gzip;q=0.5, deflate;q=0.5", "gzip"),
        ("gzip;q=0", None),
        ("*", "gzip"),
        ("gzip;q=0, *;q=0.3", "deflate"),
        ("gzip;q=oops", None),
        ("identity", None),
    ],
)
async def test_compression(api: Api, accept: str | None, expected: str | None) -> None:
    async with (
        api(SETTINGS, merged(ADMIN, CONTROL), ECHO_ROUTES) as client,
        client.stream("GET", "/api/echo/x?" + "y" * 200, headers={"Accept-Encoding": accept or ""}) as response,
    ):
        raw = b"".join([chunk async for chunk in response.aiter_raw()])
        assert response.headers.get("content-encoding") == expected
        assert response.headers.get("vary") == ("Accept-Encoding" if expected else None)
        assert int(response.headers["content-length"]) == len(raw)
        plain = gzip.decompress(raw) if expected == "gzip" else zlib.decompress(raw, -15) if expected else raw
        assert json.loads(plain)["namespace"] == "default"


async def test_small_answers_and_early_errors_are_not_compressed(api: Api) -> None:
    async with api(SETTINGS, merged(ADMIN, JSON)) as client:
        assert "content-encoding" not in (await client.get("/api/health")).headers
        early = await client.post("/api/worker/register", content=b"{", headers={"Accept-Encoding": "gzip"})
        assert early.status_code == 400
        assert len(early.content) > 1024
        assert "content-encoding" not in early.headers


async def test_connections_stay_open_but_for_the_python_sdk_on_the_control_plane(api: Api) -> None:
    async with api(SETTINGS) as client:
        cases = [
            ("/api/health", "python-httpx/0.28", True),
            ("/api/health", "curl/8", False),
            ("/api/worker/x", "python-httpx/0.28", False),
        ]
        for path, agent, closes in cases:
            response = await client.get(path, headers={"User-Agent": agent})
            assert (response.headers.get("connection") == "close") is closes


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_worker_versions_are_echoed(api: Api, version: str) -> None:
    async with api(SETTINGS, merged(WORKER_TOKEN, JSON), ECHO_ROUTES) as client:
        response = await client.post(
            "/api/worker/echo", content=b"{}", headers={"X-Durable-Workflow-Protocol-Version": version}
        )
        assert response.status_code == 200
        assert response.headers["x-durable-workflow-protocol-version"] == version
        assert response.json()["protocol_version"] == version
        assert response.json()["server_capabilities"]["long_poll_timeout"] == 30


@pytest.mark.parametrize("version", [None, "", "1.2", "2.0", "0.9", "1", "1.1.0", "abc"])
async def test_other_worker_versions_are_refused(api: Api, version: str | None) -> None:
    async with api(SETTINGS, merged(WORKER_TOKEN, JSON)) as client:
        headers = {} if version is None else {"X-Durable-Workflow-Protocol-Version": version}
        response = await client.post("/api/worker/register", content=b"{}", headers=headers)
        body = response.json()
        assert response.status_code == 400
        assert body["reason"] == ("unsupported_protocol_version" if version else "missing_protocol_version")
        assert body["error"]
        assert "message" not in body
        assert (body["supported_version"], body["requested_version"]) == ("1.1", version or None)
        assert body["supported_versions"] == ["1.0", "1.1"]
        assert body["protocol_version"] == response.headers["x-durable-workflow-protocol-version"] == "1.1"


async def test_control_plane_object_of_errors(api: Api) -> None:
    async with api(SETTINGS, merged(OPERATOR, CONTROL)) as client:
        body = (await client.get("/api/workflows/w-1/runs/r-1")).json()
        assert (body["workflow_id"], body["run_id"], body["reason"]) == ("w-1", "r-1", "run_not_found")
        control = body["control_plane"]
        assert control["schema"] == "durable-workflow.v2.control-plane-response"
        assert (control["operation"], control["workflow_id"], control["run_id"]) == ("describe_run", "w-1", "r-1")
        assert control["contract"] == {**CONTRACT, "required_fields": ["workflow_id"], "success_fields": ["run_id"]}
        assert "operation_name" not in control
        for key in control.keys() & set(PROJECTED_FIELDS):
            assert control[key] == body[key]
        body = (await client.get("/api/workflows", headers={"Authorization": "x"})).json()
        assert body["control_plane"]["operation"] == "list"
        assert body["control_plane"]["workflow_id"] is None
        assert "control_plane" not in (await client.get("/api/workers/x")).json()


# -- authentication ----------------------------------------------------------------------------------------------------

LEGACY = make_auth(legacy_token="legacy")
MIXED = make_auth(tokens={"worker": "w-token"}, legacy_token="legacy")
STRICT = make_auth(legacy_token="legacy", backward_compatible=False)
MIXED_STRICT = make_auth(tokens={"worker": "w-token"}, legacy_token="legacy", backward_compatible=False)


@pytest.mark.parametrize(
    ("settings", "authorization", "control", "worker"),
    [
        (make_auth(driver="none"), "Bearer anything", 200, 200),
        (make_auth(driver="none"), None, 200, 200),
        (make_auth(), "Bearer x", 500, 500),
        (LEGACY, "Bearer legacy", 200, 200),
        (LEGACY, "bearer legacy", 200, 200),
        (LEGACY, "Basic x, Bearer legacy, Bearer2", 200, 200),
        (LEGACY, "Bearer other", 401, 401),
        (LEGACY, "Bearer", 401, 401),
        (LEGACY, "legacy", 401, 401),
        (LEGACY, None, 401, 401),
        (STRICT, "Bearer legacy", 500, 500),
        (TOKENS, "Bearer w-token", 403, 200),
        (TOKENS, "Bearer o-token", 200, 403),
        (TOKENS, "Bearer a-token", 200, 403),
        (MIXED, "Bearer legacy", 200, 403),
        (MIXED, "Bearer w-token", 403, 200),
        (MIXED_STRICT, "Bearer legacy", 401, 401),
        (make_auth(tokens={"worker": "same", "admin": "same"}), "Bearer same", 403, 200),
        (make_auth(driver="ldap"), "Bearer x", 500, 500),
    ],
)
async def test_token_rules(api: Api, settings: AuthSettings, authorization: str | None, control: int, worker: int) -> None:
    headers = merged(CONTROL, WORKER_HEADERS, {"Authorization": authorization} if authorization else {})
    async with api(make_settings(auth=settings), headers, ECHO_ROUTES) as client:
        assert (await client.get("/api/echo/x")).status_code == control
        assert (await client.post("/api/worker/echo")).status_code == worker


async def test_misconfigured_auth_says_what_is_missing(api: Api) -> None:
    for driver, text in (("token", "DW_AUTH_TOKEN"), ("signature", "DW_SIGNATURE_KEY"), ("ldap", "ldap")):
        async with api(make_settings(auth=make_auth(driver=driver))) as client:
            response = await client.get("/api/workflows", headers=CONTROL)
            assert response.json()["reason"] == "server_error"
            assert text in response.json()["message"]


async def test_signatures(api: Api) -> None:
    import hashlib
    import hmac

    settings = make_settings(auth=make_auth(driver="signature", signature_keys={"operator": "k1"}, legacy_signature_key="k2"))
    async with api(settings, merged(CONTROL, JSON), ECHO_ROUTES) as client:

        def signed(key: str, content: bytes) -> str:
            return hmac.new(key.encode(), content, hashlib.sha256).hexdigest()

        content = b'{ "a": 1 }'
        for signature, status in (
            (signed("k1", content), 200),
            (signed("k2", content), 200),
            (signed("k1", content).upper(), 401),
            (signed("k3", content), 401),
            (signed("k1", b'{"a":1}'), 401),
            ("sha256=" + signed("k1", content), 401),
        ):
            response = await client.post("/api/echo/x", content=content, headers={"X-Signature": signature})
            assert response.status_code == status
        assert (await client.get("/api/echo/x", headers={"X-Signature": signed("k1", b"")})).status_code == 200
        assert "X-Signature" in (await client.get("/api/echo/x")).json()["message"]


async def test_an_unreachable_database_is_503_with_a_hint(api: Api, db: Database) -> None:
    async with api(SETTINGS, merged(OPERATOR, CONTROL)) as client:
        assert (await client.get("/api/workflows")).status_code == 200
        await db.stop()
        response = await client.get("/api/workflows")
        assert (response.status_code, response.json()["reason"]) == (503, "service_unavailable")
        assert response.headers["retry-after"] == "1"
        assert response.json()["control_plane"]["operation"] == "list"
        health = await client.get("/api/health")
        assert (health.status_code, health.json()["checks"]) == (503, {"database": "unavailable"})
        ready = await client.get("/api/ready")
        assert ready.status_code == 503
        assert ready.json()["checks"]["database"]["status"] == "unavailable"


async def test_a_fault_is_logged_with_what_is_known_of_the_request(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    headers = merged(ADMIN, CONTROL, {"X-Request-Id": "r-7"})
    async with api(SETTINGS, routes=ECHO_ROUTES) as client:
        response = await client.get("/api/broken", headers=headers)
    assert response.status_code == 500 and "x-request-id" not in response.headers
    told = [vars(record) for record in caplog.records if record.name == "dw.api"]
    assert [(each["action"], each["method"], each["route"], each["request_id"]) for each in told] == [
        ("request.failed", "GET", "/broken", "r-7")
    ]


class Counted(NoMetrics):
    """Keeps what is counted."""

    def __init__(self) -> None:
        self.found: list[tuple[str, Labels]] = []

    def count(self, instrument: Instrument, labels: Labels = (), by: int = 1) -> None:
        assert instrument.kind == "counter" and len(labels) == len(instrument.labels)
        self.found.append((instrument.name, labels))


async def test_requests_are_counted_by_route_and_status(db: Database) -> None:
    services = services_for(db, SETTINGS)
    counted = services.metrics = Counted()
    headers = merged(OPERATOR, CONTROL, JSON)
    async with serving(create_app(services, ECHO_ROUTES)) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        await client.post("/api/echo/a", content=b"{}", headers=headers)
        await client.get("/api/echo/b")
        await client.get("/api/nowhere")
        await client.put("/api/echo/a", content=b"{}", headers=headers)
    assert counted.found == [
        ("requests", ("POST", "/echo/{name}", 200)),
        ("requests", ("GET", "/echo/{name}", 401)),
        ("requests", ("GET", "none", 404)),
        ("requests", ("PUT", "none", 405)),
    ]
