"""What is refused before it arrived whole: the answer reaches the client, whatever it goes on sending."""

from __future__ import annotations

import time

import durable_workflow
import pytest
from durable_workflow.errors import DurableWorkflowError

from tests.edge.conftest import PAYLOAD_BYTES
from tests.edge.raw import BASE, JSON, Raw, chunks, head
from tests.support.server import ServerProcess

LARGE = PAYLOAD_BYTES * 3 // 2
PIECE = b"x" * 4096


def _length(size: int) -> dict[str, str]:
    return {"Content-Length": str(size)}


CHUNKED = {"Transfer-Encoding": "chunked"}
NOBODY = {name: value for name, value in BASE.items() if name != "Authorization"}


async def test_an_oversize_start_of_the_sdk_is_told_so(edge: ServerProcess) -> None:
    async with durable_workflow.Client(edge.url, token=edge.token, namespace="default") as client:
        for _ in range(3):
            with pytest.raises(DurableWorkflowError) as told:
                await client.start_workflow(
                    workflow_type="edge", task_queue="edge", workflow_id="too-large", input=["x" * LARGE]
                )
            assert "413" in str(told.value) or "payload" in str(told.value), told.value


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize(
    ("status", "method", "path", "base", "fields", "large"),
    [
        (413, "POST", "/api/workflows", BASE, JSON, True),
        (413, "POST", "/api/worker/heartbeat", BASE, JSON, True),
        (413, "GET", "/api/health", BASE, {}, True),
        (401, "POST", "/api/workflows", NOBODY, JSON, False),
        (415, "POST", "/api/workflows", BASE, {"Content-Type": "text/plain"}, False),
        (400, "POST", "/api/workflows", BASE, JSON, False),
        (404, "POST", "/api/nothing", BASE, JSON, True),
        (405, "POST", "/api/health", BASE, JSON, True),
        (400, "POST", "/api/workflows", {**BASE, "Host": "a\r\nHost: b"}, JSON, True),
        (431, "POST", "/api/workflows", {**BASE, "X-Long": "x" * 17_000}, JSON, True),
        (414, "POST", "/api/" + "x" * 9_000, BASE, JSON, True),
    ],
)
def test_a_refusal_reaches_a_client_that_is_still_sending(
    edge: ServerProcess,
    status: int,
    method: str,
    path: str,
    base: dict[str, str],
    fields: dict[str, str],
    large: bool,
    framing: str,
) -> None:
    pieces = [b" " * 4096] * ((LARGE if large else PAYLOAD_BYTES // 2) // 4096) + [b"x" if status == 400 else b"{}"]
    if framing == "length":
        how, body = _length(sum(len(piece) for piece in pieces)), pieces
    else:
        how, body = CHUNKED, [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]
    with Raw(edge) as raw:
        raw.send(head(method, path, fields, how, base=base))
        time.sleep(0.1)
        answer = raw.send(*body).answer()
        assert answer.status == status
        assert answer.json["reason"]
        if answer.headers.get("connection") == "close":
            assert raw.ended()


def test_a_slow_sender_is_answered(edge: ServerProcess) -> None:
    with Raw(edge) as raw:
        raw.send(head("POST", "/api/workflows", JSON, _length(LARGE)))
        answer = raw.send(*[PIECE] * 20, pause=0.1).answer()
        assert (answer.status, answer.headers["connection"]) == (413, "close")


@pytest.mark.parametrize("framing", [_length(10**12), CHUNKED])
def test_a_sender_that_never_ends_is_answered_and_left(edge: ServerProcess, framing: dict[str, str]) -> None:
    piece = PIECE if "Content-Length" in framing else b"1000\r\n%b\r\n" % PIECE
    with Raw(edge) as raw:
        raw.send(head("POST", "/api/workflows", JSON, framing))
        if framing == CHUNKED:
            raw.send(*[piece] * (LARGE // len(PIECE)))
        assert raw.answer().status == 413
        assert raw.send_until_refused(piece, 60) < 60, "an endless body is read for ever"
    with Raw(edge) as slow:
        slow.send(head("POST", "/api/workflows", JSON, _length(10**9)))
        assert slow.answer().status == 413
        begun = time.monotonic()
        try:
            while time.monotonic() - begun < 60:
                slow.send(b"x", pause=0.2)
        except ConnectionError:
            pass
        assert time.monotonic() - begun < 30, "a drip is read for ever"


def test_a_client_that_asks_first_is_not_told_to_go_on_when_refused(edge: ServerProcess) -> None:
    with Raw(edge) as raw:
        answer = raw.send(head("POST", "/api/workflows", JSON, _length(LARGE), {"Expect": "100-continue"})).answer()
        assert (answer.status, answer.interim) == (413, ())
        assert raw.ended()
    body = b"{}"
    with Raw(edge) as raw:
        raw.send(head("POST", "/api/workflows", JSON, _length(len(body)), {"Expect": "100-Continue"}))
        status, _ = raw._answer_head()
        assert status == 100
        assert raw.send(body).answer().status == 422


def test_the_end_of_a_refused_request_ends_the_connection(edge: ServerProcess) -> None:
    """Nobody waits for the end of a time limit when everything was sent."""
    with Raw(edge) as raw:
        begun = time.monotonic()
        raw.send(head("POST", "/api/nothing", JSON, CHUNKED))
        time.sleep(0.1)
        assert raw.send(chunks(PIECE)).answer().status == 404
        assert raw.ended()
        assert time.monotonic() - begun < 2.5
