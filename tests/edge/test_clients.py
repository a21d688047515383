"""Different clients, one server: whatever they put around a request, and however its bytes come, they get the same answers."""

from __future__ import annotations

import base64
import itertools
import json
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import durable_workflow
import httpx
import pytest

from tests.edge.conftest import PAYLOAD_BYTES, start
from tests.edge.raw import BASE, JSON, Raw, chunked_request, chunks, head, request
from tests.support.server import ServerProcess

Answered = tuple[int, Any]
Send = Callable[[str, str, Any], Answered]

FIELDS = {**BASE, **JSON}
JDK = {
    "Connection": "Upgrade, HTTP2-Settings",
    "Host": "localhost",
    "HTTP2-Settings": "AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA",
    "Upgrade": "h2c",
    "User-Agent": "Java-http-client/17.0.15",
}
KNOWN_AT_RUN_TIME = re.compile(r"\b[0-9A-HJKMNP-TV-Z]{26}\b|\d{4}-\d\d-\d\dT[\d:.]+(?:Z|\+00:00)|sha256:[0-9a-f]{64}", re.I)

_numbers = itertools.count(1)


def converse(send: Send) -> list[Answered]:
    """What a client is answered over the life of a workflow, without what differs from one workflow to the next."""
    name = f"talk-{next(_numbers):04}"
    path = f"/api/workflows/{name}"
    said: list[Answered] = [send("POST", "/api/workflows", start(name, input=["x" * 3000, {"a": [1, None]}]))]
    run = said[0][1]["run_id"]
    said += [
        send("POST", f"{path}/signal/go", {"input": ["one", 2]}),
        send("GET", path, None),
        send("POST", "/api/worker/register", {"worker_id": f"w-{name}", "task_queue": "talk", "runtime": "python"}),
        send("POST", "/api/workflows", start(name, input=["x" * (PAYLOAD_BYTES * 3 // 2)])),
        send("GET", "/api/nothing", None),
        send("POST", "/api/workflows", {"input": []}),
        send("POST", f"{path}/cancel", {"reason": "said enough"}),
        send("GET", f"{path}/runs/{run}/history", None),
    ]
    return [(status, json.loads(KNOWN_AT_RUN_TIME.sub("#", json.dumps(value).replace(name, "NAME")))) for status, value in said]


class Bytes:
    """A client that speaks on a socket of the test's own; a new one when the server closed the last."""

    def __init__(self, server: ServerProcess, make: Callable[[str, str, Any], bytes], singly: bool = False) -> None:
        self._server, self._make, self._singly = server, make, singly
        self._raw: Raw | None = None

    def __call__(self, method: str, path: str, body: Any) -> Answered:
        raw = self._raw = self._raw or Raw(self._server)
        sent = self._make(method, path, body)
        if self._singly and len(sent) < PAYLOAD_BYTES:
            raw.send_singly(sent)
        else:
            raw.send(sent)
        answer = raw.answer()
        if answer.headers.get("connection") == "close":
            self._raw = None
        return answer.status, answer.json


@pytest.fixture(scope="module")
def expected(edge: ServerProcess) -> list[Answered]:
    """What a plain client is answered."""
    with httpx.Client(base_url=edge.url, headers=FIELDS, timeout=60) as client:

        def send(method: str, path: str, body: Any) -> Answered:
            content = None if body is None else json.dumps(body).encode()
            answer = client.request(method, path, content=content)
            return answer.status_code, answer.json()

        said = converse(send)
    assert [status for status, _ in said] == [201, 202, 200, 201, 413, 404, 422, 200, 200]
    types = [event["event_type"] for event in said[-1][1]["events"]]
    assert types[:2] == ["StartAccepted", "WorkflowStarted"] and "SignalReceived" in types
    return said


def _jdk(method: str, path: str, body: Any) -> bytes:
    fields = {name: value for name, value in FIELDS.items() if name != "Host"}
    data = b"" if body is None else json.dumps(body).encode()
    length = {} if body is None else {"Content-Length": str(len(data))}
    return head(method, path, length, fields, base=JDK) + data


def _chunked(method: str, path: str, body: Any) -> bytes:
    trailer = b"X-Namespace: elsewhere\r\n"
    return head(method, path) if body is None else chunked_request(method, path, body, trailer=trailer, size=1000)


def _jdk_chunked(method: str, path: str, body: Any) -> bytes:
    if body is None:
        return _jdk(method, path, body)
    return head(method, path, {"Transfer-Encoding": "chunked"}, JSON, dict(list(BASE.items())[1:]), base=JDK) + chunks(
        json.dumps(body).encode()
    )


@pytest.mark.parametrize("singly", [False, True])
@pytest.mark.parametrize("make", [request, _chunked, _jdk, _jdk_chunked])
def test_bytes_of_every_kind_get_the_same_answers(
    edge: ServerProcess, expected: list[Answered], make: Callable[[str, str, Any], bytes], singly: bool
) -> None:
    assert converse(Bytes(edge, make, singly)) == expected


@pytest.fixture
def jdk(edge: ServerProcess) -> Iterator[Send]:
    """The default HttpClient of the JDK on this machine."""
    java = shutil.which("java")
    if java is None or shutil.which("javac") is None:
        pytest.skip("no JDK here: its bytes are tested, the JDK itself is not")
    fields = [part for name, value in FIELDS.items() if name != "Host" for part in (name, value)]
    command = [java, str(Path(__file__).with_name("JdkClient.java")), *fields]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    into, out = process.stdin, process.stdout

    def send(method: str, path: str, body: Any) -> Answered:
        data = "-" if body is None else base64.b64encode(json.dumps(body).encode()).decode()
        into.write(f"{method} {edge.url}{path} {data}\n")
        into.flush()
        status, _, answer = out.readline().partition(" ")
        return int(status), json.loads(base64.b64decode(answer))

    try:
        yield send
    finally:
        process.kill()
        process.wait()


def test_the_jdk_gets_the_same_answers(jdk: Send, expected: list[Answered]) -> None:
    assert converse(jdk) == expected


@pytest.mark.parametrize("option", ["--http2", "--http1.1"])
def test_curl_gets_the_same_answers(edge: ServerProcess, expected: list[Answered], option: str) -> None:
    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("no curl here")

    def send(method: str, path: str, body: Any) -> Answered:
        command = [curl, "-sS", option, "-X", method, "-w", "\n%{http_code}", edge.url + path]
        command += [part for name, value in FIELDS.items() if name != "Host" for part in ("-H", f"{name}: {value}")]
        data = None
        if body is not None:
            command += ["--data-binary", "@-"]
            data = json.dumps(body).encode()
        done = subprocess.run(command, input=data, capture_output=True, timeout=60, check=True)
        answer, _, status = done.stdout.rpartition(b"\n")
        return int(status), json.loads(answer)

    assert converse(send) == expected


async def test_the_sdk_causes_the_same_history(edge: ServerProcess, expected: list[Answered]) -> None:
    async with durable_workflow.Client(edge.url, token=edge.token, namespace="default") as client:
        handle = await client.start_workflow(workflow_type="edge", task_queue="edge", workflow_id="sdk-talk", input=["one"])
        await handle.signal("go", ["one", 2])
        await handle.cancel(reason="said enough")
        assert handle.run_id is not None
        history = await client.get_history(handle.workflow_id, handle.run_id)
    types = [event["event_type"] for event in history["events"]]
    assert types == [event["event_type"] for event in expected[-1][1]["events"]]
    assert "said enough" in json.dumps(history)
