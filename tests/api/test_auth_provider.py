"""A provider in the place of the built-in drivers (configuration-and-security 3.2, 3.3, 4)."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.http.access.operations import OPERATIONS, Operation
from api.http.access.resource import uri_of
from api.http.access.threads import Threads
from api.http.auth import authenticator
from api.routes import ROUTES
from api.settings import Settings
from durable_workflow_server.auth import ACTION, AuthError, AuthRequest, Principal
from tests.api import providers
from tests.api.conftest import CONTROL, WORKER, Api
from tests.api.driver import Http
from tests.api.echo import ECHO_ROUTES, JSON, merged
from tests.support.defaults import make_auth, make_settings
from tests.support.server import ServerProcess
from tests.support.services import TestServices

CONTRACT = Path(__file__).parents[2] / "docs" / "contract" / "configuration-and-security.md"

BOTH = ("Scripted", "ScriptedAsync", "Awaiting")


def settings_of(name: str, seconds: int = 20, threads: int = 4) -> Settings:
    named = f"tests.api.providers:{name}"
    return make_settings(auth=make_auth(provider=named, provider_seconds=seconds, provider_threads=threads))


# -- the table of operations -------------------------------------------------------------------------------------------


def contract_rows() -> Iterator[tuple[str, str, Operation]]:
    """Method, path and operation of each route of the contract's table."""
    text = CONTRACT.read_text(encoding="utf-8")
    for line in text[text.index("### 3.2") : text.index("### 3.3")].splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 6 or not cells[0].startswith(("GET", "POST", "PUT", "DELETE")) or cells[1] == "public":
            continue
        names = [name.strip(" *") for name in cells[5].split("/")]
        routes: list[tuple[str, str]] = []
        last = ""
        for part in re.split(r", (?=[A-Z/])", re.sub(r" \([^)]*\)", "", cells[0])):
            words = part.split()
            methods = [word.strip(",") for word in words if word.isupper()] or [routes[-1][0]]
            path = next((word for word in words if word.startswith("/")), None)
            if path is None:  # "GET, PUT, DELETE /path": the path stands behind the last
                routes += [(method, "") for method in methods]
                continue
            if not any(word.isupper() for word in words) and len(last) > len(path):
                # "/signal/{signalName}, /query/{queryName}": the end of the path before is another
                depth = path.count("/")
                path = last.rsplit("/", depth)[0] + path
            routes += [(method, path) for method in methods]
            last = path
        routes = [(method, path or last) for method, path in routes]
        family = None if cells[4] == "(absent)" else cells[4]
        assert len(names) in (1, len(routes)), line
        for index, (method, path) in enumerate(routes):
            yield method, path, Operation(family, names[index if len(names) > 1 else 0])


def test_the_table_of_operations_is_that_of_the_contract() -> None:
    ours = {(method, uri_of(path).removeprefix("api")): operation for (method, path), operation in OPERATIONS.items()}
    told = {(method, path): operation for method, path, operation in contract_rows()}
    assert len(told) > 70
    assert {key: ours.get(key) for key in told} == told
    assert set(ours) == set(told)


def test_every_route_has_an_operation() -> None:
    missing = [(each.method, each.template) for each in ROUTES if each.roles and (each.method, each.template) not in OPERATIONS]
    assert missing == [], "give them rows in api/http/access/operations.py, and in the contract"


# -- what a provider is told -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOTH)
async def test_a_provider_is_told_the_request_and_the_resource(api: Api, name: str) -> None:
    providers.scripted()
    body = {"run_id": "not this", "task_queue": " q ", "worker_id": "", "lease_owner": ["x"], "workflow_task_attempt": 3}
    async with api(settings_of(name), merged(CONTROL, {"X-Namespace": "Lab"})) as client:
        response = await client.post(
            "/api/workflows/w%2F9/signal/go?build_id=b-1&a=1&a=2&workflow_type=%20", json=body, headers={"X-Name": "Ann"}
        )
    assert (response.status_code, response.json()["reason"]) == (404, "namespace_not_found")  # it was let in
    (_, request, first), (_, principal, action, resource, second) = providers.SEEN
    assert isinstance(request, AuthRequest)
    assert (request.method, request.path, request.client_host) == ("POST", "/api/workflows/w%2F9/signal/go", "127.0.0.1")
    assert request.query == {"build_id": ("b-1",), "a": ("1", "2"), "workflow_type": (" ",)}
    assert request.headers["X-NAME"] == request.headers["x-name"] == "Ann" and "X-Name" in request.headers
    assert json.loads(request.body) == body
    assert (first, second) == ((True, True) if name == "ScriptedAsync" else (False, False))
    assert (principal, action) == (Principal("ann", ["operator"], "word"), ACTION)
    assert resource == {
        "allowed_roles": ["operator", "admin"],
        "method": "POST",
        "path": "/api/workflows/w%2F9/signal/go",
        "route_uri": "api/workflows/{workflowId}/signal/{signalName}",
        "route_parameters": {"workflow_id": "w/9", "signal_name": "go"},
        "operation_family": "workflow",
        "operation_name": "signal",
        "default_namespace": "default",
        "requested_namespace": "lab",
        "namespace": "lab",
        "workflow_id": "w/9",
        "signal_name": "go",
        "task_queue": "q",
        "build_id": "b-1",
        "workflow_task_attempt": 3,
    }


async def test_namespaces_are_named_by_the_url_or_the_body(api: Api) -> None:
    providers.scripted(authorize=False)
    async with api(settings_of("Scripted"), CONTROL) as client:
        for call, expected in (
            (client.get("/api/namespaces/Lab"), "lab"),
            (client.post("/api/namespaces", json={"name": " Lab2 "}), "lab2"),
            (client.post("/api/namespaces", json={"name": 3}), None),
            (client.delete("/api/search-attributes/Customer"), None),
        ):
            providers.SEEN.clear()
            assert (await call).status_code == 403
            resource = providers.SEEN[1][3]
            assert resource.get("target_namespace") == resource.get("namespace_name") == expected
    assert (resource["search_attribute_name"], resource["operation_name"]) == ("Customer", "destroy")


async def test_a_provider_is_asked_about_every_route(api: Api) -> None:
    """Before version and namespace; what it refuses gets the same answer whether the namespace exists or not."""
    providers.scripted(authorize=False)
    async with api(settings_of("ScriptedAsync")) as client:
        for route in ROUTES:
            path = "/api" + re.sub(r"\{\w+\}", "x1", route.template)
            answers = set()
            for namespace in ("default", "nowhere"):
                providers.SEEN.clear()
                response = await client.request(route.method, path, headers={"X-Namespace": namespace})
                if route.roles is None:
                    assert response.status_code in (200, 503) and not providers.SEEN, path
                    continue
                assert response.status_code == 403, (path, response.text)
                answers.add(response.text)
                resource = providers.SEEN[1][3]
                operation = OPERATIONS[route.method, route.template]
                assert resource.get("operation_family") == operation.family
                assert resource["operation_name"] == operation.name
                assert resource["allowed_roles"] == list(route.roles)
                assert resource["requested_namespace"] == namespace
            assert len(answers) <= 1, path
        head = await client.head("/api/workflows")
        assert head.status_code == 403 and providers.SEEN[-1][3]["method"] == "HEAD"


async def test_a_long_body_is_read_after_the_caller_is_known(api: Api) -> None:
    long = b'{"task_queue": "far", "pad": "' + b"x" * 70_000 + b'"}'
    async with api(settings_of("Scripted"), merged(CONTROL, JSON), ECHO_ROUTES) as client:
        providers.scripted(authenticate=AuthError.unauthenticated("who?"))
        response = await client.post("/api/echo/a", content=long[:-1])
        assert (response.status_code, response.json()["message"]) == (401, "who?")
        providers.scripted()
        assert (await client.post("/api/echo/a", content=long[:-1])).status_code == 400
        assert (await client.post("/api/workflows", content=long)).status_code == 422
        assert providers.SEEN[-1][3]["task_queue"] == "far"


# -- what it may answer ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BOTH)
async def test_only_true_itself_lets_in(api: Api, name: str) -> None:
    async with api(settings_of(name), CONTROL, ECHO_ROUTES) as client:
        for answer in (False, None, 1, "yes", [True], object()):
            providers.scripted(authorize=answer)
            response = await client.get("/api/echo/x")
            body = response.json()
            assert (response.status_code, body["reason"]) == (403, "forbidden"), answer
            assert (body["role"], body["allowed_roles"]) == ("operator", ["operator", "admin"])
        providers.scripted(authenticate=Principal("full", legacy_full_access=True), authorize=False)
        response = await client.get("/api/echo/x")
        assert response.status_code == 403 and "role" not in response.json()
        providers.scripted()
        assert (await client.get("/api/echo/x")).status_code == 200


FAULTS = [
    ValueError("x"),
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    StopIteration(1),
    TimeoutError(),
    asyncio.CancelledError(),
    httpx.ConnectError("x"),
]


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: type(fault).__name__)
async def test_a_fault_is_500_and_told_to_the_log(
    api: Api, name: str, fault: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async with api(settings_of(name), merged(CONTROL, {"X-Request-Id": "r-77"}), ECHO_ROUTES) as client:
        for given in ({"authenticate": fault}, {"authorize": fault}):
            providers.scripted(**given)
            response = await client.get("/api/echo/x")
            assert (response.status_code, response.json()["reason"]) == (500, "server_error")
        providers.scripted()
        assert (await client.get("/api/echo/x")).status_code == 200
    told = [vars(record) for record in caplog.records if record.name == "dw.api"]
    assert [(each["action"], each["route"], each["request_id"]) for each in told] == 2 * [
        ("auth.provider_failed", "/echo/{name}", "r-77")
    ]


BAD_PRINCIPALS = [
    "ann",
    {"subject": "ann"},
    lambda _: Principal(3),  # type: ignore[arg-type]
    lambda _: Principal(" "),
    lambda _: Principal("ann", "admin"),
    lambda _: Principal("ann", claims={"a": object()}),
    lambda _: Principal("ann", claims={"a": "\x00"}),
    lambda _: Principal("ann\udc80"),
    lambda _: Principal("ann", claims={"a": 10**30}),
    lambda _: Principal("ann", claims={"a": "x" * 20_000}),
]


@pytest.mark.parametrize("answer", BAD_PRINCIPALS)
async def test_what_is_no_principal_is_500(api: Api, answer: Any) -> None:
    providers.scripted(authenticate=answer)
    async with api(settings_of("Scripted"), CONTROL, ECHO_ROUTES) as client:
        assert (await client.get("/api/echo/x")).status_code == 500
        assert [each[0] for each in providers.SEEN] == ["authenticate"]


async def test_nobody_and_errors_of_the_protocol(api: Api) -> None:
    async with api(settings_of("ScriptedAsync"), CONTROL, ECHO_ROUTES) as client:
        providers.scripted(authenticate=lambda _: None)
        response = await client.get("/api/echo/x")
        assert (response.status_code, response.json()["reason"]) == (401, "unauthorized")
        for error, status, reason in (
            (AuthError.unauthenticated("no such key"), 401, "unauthorized"),
            (AuthError.configuration("no issuer"), 500, "server_error"),
            (AuthError.unavailable("issuer is away"), 503, "service_unavailable"),
        ):
            for given in ({"authenticate": error}, {"authorize": error}):
                providers.scripted(**given)
                response = await client.get("/api/echo/x")
                assert (response.status_code, response.json()["reason"]) == (status, reason)
                assert response.json()["message"] == error.message
                assert ("retry-after" in response.headers) is (status == 503)
                assert "x-durable-workflow-control-plane-version" in response.headers


def test_a_principal_puts_its_roles_in_order() -> None:
    assert Principal("a", [" worker", "", "admin", "worker"]).roles == ("worker", "admin")


# -- slow ones ---------------------------------------------------------------------------------------------------------


async def test_a_slow_provider_holds_nobody_else_up(api: Api, caplog: pytest.LogCaptureFixture) -> None:
    async with api(settings_of("Slow", seconds=2, threads=3), CONTROL, ECHO_ROUTES) as client:

        async def call(name: str) -> tuple[int, float]:
            begun = time.monotonic()
            response = await client.get("/api/echo/x", headers={"X-Name": name})
            return response.status_code, time.monotonic() - begun

        slow = [asyncio.ensure_future(call(name)) for name in ("async", "async", "block", "block")]
        await asyncio.sleep(0.3)
        assert [(await call("quick"))[0] for _ in range(5)] == [200] * 5  # the third thread serves them
        assert not any(task.done() for task in slow)
        for status, seconds in await asyncio.gather(*slow):
            assert status == 503 and 1.9 < seconds < 10
        assert (await call("quick"))[0] == 200
    assert {vars(record).get("action") for record in caplog.records if record.name == "dw.api"} == {"auth.provider_silent"}


async def test_blocked_threads_are_waited_for_no_longer_than_the_time(api: Api) -> None:
    async with api(settings_of("Slow", seconds=1, threads=1), CONTROL, ECHO_ROUTES) as client:
        blocked = asyncio.ensure_future(client.get("/api/echo/x", headers={"X-Name": "block"}))
        await asyncio.sleep(0.2)
        waiting = await asyncio.gather(*[client.get("/api/echo/x") for _ in range(5)])
        assert {response.status_code for response in waiting} == {503}
        assert (await client.get("/api/health")).status_code == 200
        assert (await blocked).status_code == 503
        deadline = time.monotonic() + 30
        while (await client.get("/api/echo/x")).status_code != 200:  # the thread is free again
            assert time.monotonic() < deadline


async def test_threads_are_as_many_as_there_is_work_for() -> None:
    threads = Threads(3, "counted")
    assert await threads.run(lambda: 1) == 1
    assert await threads.run(lambda: 2) == 2
    assert sum(each.name.startswith("counted-") for each in threading.enumerate()) <= 2

    def napping() -> str:
        time.sleep(0.05)
        return threading.current_thread().name

    names = await asyncio.gather(*[threads.run(napping) for _ in range(9)])
    assert 1 < len(set(names)) <= 3
    assert all(each.daemon for each in threading.enumerate() if each.name.startswith("counted-"))


# -- readiness ---------------------------------------------------------------------------------------------------------


async def test_readiness_names_a_good_provider(api: Api) -> None:
    async with api(settings_of("Scripted")) as client:
        response = await client.get("/api/ready")
        named = "tests.api.providers:Scripted"
        assert (response.status_code, response.json()["checks"]["auth"]) == (
            200,
            {"status": "ok", "driver": "custom", "provider": named},
        )


@pytest.mark.parametrize(
    "named",
    [
        "nothing_here.at_all:Class",
        "tests.api.providers:Nothing",
        "tests.api.providers:NO_CLASS",
        "tests.api.providers:HIDDEN",
        "tests.api.providers:Unmade",
        "tests.api.providers:HalfMade",
        "pathlib:Path",
        "justaword",
        ":",
        "tests..providers:Scripted",
    ],
)
async def test_a_provider_that_can_not_be_used_lets_nobody_in(api: Api, named: str) -> None:
    tokens = make_auth(provider=named, tokens={"admin": "a-token"}, legacy_token="a-token")
    async with api(make_settings(auth=tokens), merged(CONTROL, {"Authorization": "Bearer a-token"})) as client:
        response = await client.get("/api/workflows")
        assert (response.status_code, response.json()["reason"]) == (500, "server_error")
        assert (await client.get("/api/health")).status_code == 200
        ready = await client.get("/api/ready")
        check = ready.json()["checks"]["auth"]
        assert (ready.status_code, check["status"], check["driver"]) == (503, "invalid", "custom")
        assert check["provider"] == named and check["remediation"] and check["message"]
        assert providers.HIDDEN not in ready.text + response.text


def test_a_dotted_path_names_a_class_too() -> None:
    found = authenticator(make_auth(provider="tests.api.providers.Scripted"))
    assert found.readiness()["status"] == "ok"


# -- a whole server ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    environment = {"DW_AUTH_PROVIDER": "tests.api.providers:Keyring", "DW_AUTH_TOKEN": "unused-token"}
    process = ServerProcess(services.deployment(), tmp_path_factory.mktemp("provided"), env=environment)
    process.token = json.dumps(
        {"subject": "user:ann", "roles": ["operator", "worker"], "method": "word", "tenant": "t-1", "claims": {"team": "x"}}
    )
    try:
        yield process.start()
    finally:
        process.stop()


async def test_who_called_stands_in_the_history(http: Http) -> None:
    await http.register()
    run_id = await http.waiting("provided-1")
    await http.post("/workflows/provided-1/signal/go", 202)
    events = await http.events("provided-1", run_id)
    commands = [event["payload"]["command"] for event in events if "command" in event["payload"]]
    assert [command["type"] for command in commands] == ["start", "signal"]
    for command in commands:
        assert (command["auth_status"], command["auth_method"]) == ("authorized", "word")
        assert command["context"]["auth"] == {
            "status": "authorized",
            "method": "word",
            "role": "operator",
            "roles": ["operator", "worker"],
            "principal": {
                "subject": "user:ann",
                "roles": ["operator", "worker"],
                "tenant": "t-1",
                "claims": {"team": "x"},
            },
        }


async def test_credentials_of_the_drivers_are_ignored_and_texts_of_the_provider_are_cleaned(server: ServerProcess) -> None:
    headers = merged(CONTROL, WORKER)
    async with httpx.AsyncClient(base_url=server.url, headers=headers, timeout=30) as client:
        for token, status in (("unused-token", 500), ("refuse-hunter2hunter2", 401), ("break-hunter2hunter2", 500)):
            response = await client.get("/api/workflows", headers={"Authorization": f"Bearer {token}"})
            assert response.status_code == status
            assert token not in response.text
        assert (await client.get("/api/workflows")).status_code == 401
    log = server.log_file.read_text()
    assert "cannot read [redacted]" in log and "hunter2" not in log and "unused-token" not in log


async def test_a_provider_that_hangs_does_not_keep_a_node_from_ending(services: TestServices, tmp_path: Path) -> None:
    environment = {"DW_AUTH_PROVIDER": "tests.api.providers:Stuck", "DW_AUTH_PROVIDER_TIMEOUT_SECONDS": "600"}
    node = ServerProcess(services.deployment(), tmp_path, env=environment)
    node.start()
    try:
        async with httpx.AsyncClient(base_url=node.url, headers=CONTROL, timeout=60) as client:
            hanging = asyncio.ensure_future(client.get("/api/workflows"))
            while (await client.get("/api/health")).status_code != 200 or hanging.done():
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            assert await asyncio.to_thread(node.stop, 60.0) == 0
            await asyncio.gather(hanging, return_exceptions=True)
    finally:
        node.stop()
