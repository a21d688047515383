"""Where a request begins and ends is never a matter of opinion; what is outside of it is no part of it."""

from __future__ import annotations

import json
from collections.abc import Callable

import psutil
import pytest

from tests.edge.conftest import PAYLOAD_BYTES, Running, start
from tests.edge.raw import BASE, JSON, Raw, ask, chunked_request, chunks, head, request
from tests.support.server import ServerProcess

CHUNKED = {"Transfer-Encoding": "chunked"}
NOBODY = {name: value for name, value in BASE.items() if name != "Authorization"}
GARBAGE = b"\x16\x03\x01\x02\x00\x01nonsense\r\n\r\n"


# -- heads and bodies that two readers could read differently ----------------------------------------------------------

WORD = b'{"input": []}'
STRICT = {
    "length and chunks": ([("Content-Length", "4"), ("Transfer-Encoding", "chunked")], b"0\r\n\r\n", 400),
    "two lengths": ([("Content-Length", "4"), ("Content-Length", "13")], WORD, 400),
    "two equal lengths": ([("Content-Length", "13"), ("Content-Length", "13")], WORD, 400),
    "a list of lengths": ([("Content-Length", "13, 13")], WORD, 400),
    "a signed length": ([("Content-Length", "+13")], WORD, 400),
    "an endless length": ([("Content-Length", "9" * 40)], WORD, 400),
    "an empty length": ([("Content-Length", "")], WORD, 400),
    "space before a colon": ([("Content-Length ", "13")], WORD, 400),
    "a folded field": ([("X-Folded", "a\r\n b"), ("Content-Length", "13")], WORD, 400),
    "a folded first field": ([("Content-Length", "13"), ("X", "\r\n\tfolded")], WORD, 400),
    "a bare line feed": ([("X", "a\nY: b"), ("Content-Length", "13")], WORD, 400),
    "a bare carriage return": ([("X", "a\rY: b"), ("Content-Length", "13")], WORD, 400),
    "a NUL": ([("X", "a\0b"), ("Content-Length", "13")], WORD, 400),
    "a field without a name": ([("", "a"), ("Content-Length", "13")], WORD, 400),
    "another coding": ([("Transfer-Encoding", "gzip, chunked")], chunks(WORD), 501),
    "only another coding": ([("Transfer-Encoding", "identity")], chunks(WORD), 501),
    "chunks not last": ([("Transfer-Encoding", "chunked, gzip")], chunks(WORD), 400),
    "a twofold coding": ([("Transfer-Encoding", "chunked"), ("Transfer-Encoding", "chunked")], chunks(WORD), 400),
    "a hidden coding": ([("Transfer-Encoding", "\x0bchunked")], chunks(WORD), 400),
    "line feeds in chunks": ([("Transfer-Encoding", "chunked")], b"d\n" + WORD + b"\n0\n\n", 400),
    "a line feed in an extension": ([("Transfer-Encoding", "chunked")], b"d;a\nb\r\n" + WORD + b"\r\n0\r\n\r\n", 400),
    "a chunk longer than it says": ([("Transfer-Encoding", "chunked")], b"c\r\n" + WORD + b"\r\n0\r\n\r\n", 400),
    "a prefixed chunk size": ([("Transfer-Encoding", "chunked")], b"0xd\r\n" + WORD + b"\r\n0\r\n\r\n", 400),
    "an endless chunk size": ([("Transfer-Encoding", "chunked")], b"f" * 20 + b"\r\n" + WORD, 400),
    "two hosts": ([("Host", "elsewhere"), ("Content-Length", "13")], WORD, 400),
}  # fmt: skip


@pytest.mark.parametrize("case", STRICT)
def test_what_could_be_read_in_two_ways_is_refused(edge: ServerProcess, running: Callable[[], Running], case: str) -> None:
    fields, body, status = STRICT[case]
    run, victim = running(), running()
    behind = request("POST", f"{victim.path}/terminate", {"reason": "smuggled"})
    for singly in (False, True):
        with Raw(edge) as raw:
            sent = head("POST", f"{run.path}/signal/go", JSON, fields) + body + behind
            (raw.send_singly if singly else raw.send)(sent)
            answers = raw.answers()
        assert [answer.status for answer in answers] == [status], case
        assert answers[0].json["reason"] in ("malformed_request", "not_implemented")
        assert answers[0].headers["connection"] == "close"
    assert run.signals() == []
    assert not [name for name in victim.types() if "erminat" in name]


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET /api/health HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        (b"GET /api/health HTTP/1.2\r\nHost: x\r\n\r\n", 400),
        (b"GET /api/health HTTP/0.9\r\n\r\n", 505),
        (b"GET /api/health\r\n\r\n", 505),
        (b"GET /api/health HTTP/1.1\r\n\r\n", 400),
        (b"GET /api/health HTTP/1.1\nHost: x\n\n", 400),
        (b"get /api/health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET /api/h\xc3\xa9alth HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET health HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"POST /api/workflows HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (GARBAGE, 400),
    ],
)
def test_what_is_no_request_of_this_protocol_is_refused(edge: ServerProcess, first: bytes, status: int) -> None:
    with Raw(edge) as raw:
        answers = raw.send(first).answers()
    assert [answer.status for answer in answers] == [status]
    assert answers[0].json["message"]


def test_old_clients_are_served_once_a_connection(edge: ServerProcess) -> None:
    for fields in ({}, {"Connection": "keep-alive"}):
        with Raw(edge) as raw:
            raw.send(head("GET", "/api/health", fields, version="HTTP/1.0") + head("GET", "/api/health"))
            answers = raw.answers()
        assert [(answer.status, answer.headers["connection"]) for answer in answers] == [(200, "close")]


def test_harmless_forms_are_served(edge: ServerProcess) -> None:
    with Raw(edge) as raw:
        raw.send(b"\r\n\r\n" + head("GET", "http://localhost/api/health?a=b") + head("GET", "/api/health#part"))
        raw.send(chunked_request("POST", "/api/workflows", start("empty-ext")).replace(b"7\r\n", b"07;name=value;flag\r\n"))
        assert [raw.answer().status for _ in range(3)] == [200, 200, 201]


# -- what stands behind a request ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [0.0, 0.3])
@pytest.mark.parametrize("make", [request, chunked_request])
def test_garbage_behind_a_request_does_not_take_its_answer(
    edge: ServerProcess, running: Callable[[], Running], make: Callable[..., bytes], apart: float
) -> None:
    run = running()
    signal = make("POST", f"{run.path}/signal/go", {"input": ["x"]})
    with Raw(edge) as raw:
        pieces = [signal + signal, GARBAGE] if apart else [signal + signal + GARBAGE]
        answers = raw.send(*pieces, pause=apart).answers()
    assert [answer.status for answer in answers] == [202, 202, 400]
    assert len(run.signals()) == 2
    with Raw(edge) as raw:
        last = make("POST", f"{run.path}/signal/go", {"input": ["x"]}, {"Connection": "close"})
        assert [answer.status for answer in raw.send(last + GARBAGE).answers()] == [202]


def test_garbage_behind_a_held_poll_waits_for_its_answer(edge: ServerProcess) -> None:
    worker = {"worker_id": "held", "task_queue": "held"}
    assert ask(edge, request("POST", "/api/worker/register", {**worker, "runtime": "python"})).status == 201
    with Raw(edge) as raw:
        answers = raw.send(request("POST", "/api/worker/workflow-tasks/poll", worker) + GARBAGE).answers()
    assert [answer.status for answer in answers] == [200, 400]


# -- trailers ------------------------------------------------------------------------------------------------------------

TRAILER = b"Authorization: Bearer dev-token\r\nX-Namespace: elsewhere\r\nContent-Type: text/plain\r\nUpgrade: h2c\r\n"


def test_fields_behind_a_body_are_no_fields_of_the_request(edge: ServerProcess) -> None:
    body = json.dumps(start("trailed")).encode()
    unknown = head("POST", "/api/workflows", JSON, CHUNKED, base=NOBODY) + chunks(body, trailer=TRAILER)
    known = chunked_request("POST", "/api/workflows", body, trailer=TRAILER)
    for singly in (False, True):
        with Raw(edge) as raw:
            (raw.send_singly if singly else raw.send)(unknown)
            assert raw.answer().status == 401
            (raw.send_singly if singly else raw.send)(known)
            assert raw.answer().status == (409 if singly else 201)
            assert raw.send(head("GET", "/api/workflows/trailed")).answer().json["namespace"] == "default"


def test_fields_that_would_change_the_framing_are_refused_behind_a_body(edge: ServerProcess) -> None:
    for line in (b"Connection: close", b"Proxy-Connection: close", b"Content-Length: 7", b"Transfer-Encoding: chunked"):
        with Raw(edge) as raw:
            raw.send(chunked_request("POST", "/api/workflows", start("not-started"), trailer=line + b"\r\nX: y\r\n"))
            assert [answer.status for answer in raw.answers()] == [400], line
    assert ask(edge, head("GET", "/api/workflows/not-started")).status == 404


ENDLESS = {
    "many trailer lines": (b"0\r\n", b"X-Trailer: " + b"x" * 1000 + b"\r\n"),
    "one trailer value": (b"0\r\nX: ", b"x" * 1000),
    "one trailer name": (b"0\r\n", b"x" * 1000),
    "one chunk extension": (b"5;a=", b"x" * 1000),
    "many chunk extensions": (b"", b"1;a=" + b"x" * 1000 + b"\r\nx\r\n"),
    "many small chunk extensions": (b"", b"1;a=" + b"x" * 60 + b"\r\nx\r\n"),
    "one header value": (None, b"x" * 1000),
    "many header lines": (None, b"\r\nX: " + b"x" * 1000),
}


@pytest.mark.parametrize("case", ENDLESS)
def test_what_surrounds_a_body_is_bounded(edge: ServerProcess, case: str) -> None:
    before, endless = ENDLESS[case]
    whole = head("POST", "/api/workflows", JSON, CHUNKED, base=NOBODY)
    first = whole[:-4] + b"\r\nX: " if before is None else whole + before
    process = psutil.Process(edge.pid)
    ask(edge, head("GET", "/api/health"))
    memory = process.memory_info().rss
    with Raw(edge) as raw:
        raw.send(first)
        sent = 0
        try:
            while sent < 60 * 1024 * 1024:
                raw.send(endless * 64)
                sent += len(endless) * 64
        except ConnectionError:
            pass
        assert process.memory_info().rss - memory < 24 * 1024 * 1024
        assert sent < 60 * 1024 * 1024, "it was all read"
    with Raw(edge) as polite:
        polite.send(first, *[endless] * (150_000 // len(endless)))
        answer = polite.answer()
        assert (answer.status, answer.json["reason"]) == (431, "header_fields_too_large")
        assert polite.send(endless).ended()


def test_a_body_of_many_small_chunks_is_served(edge: ServerProcess) -> None:
    body = json.dumps(start("crumbs", input=["x" * (PAYLOAD_BYTES // 8)])).encode()
    assert ask(edge, chunked_request("POST", "/api/workflows", body, size=1)).status == 201


# -- fields that stand twice ---------------------------------------------------------------------------------------------

TWICE = [
    ("Authorization", "Bearer dev-token"), ("X-Namespace", "default"), ("Content-Type", "application/json"),
    ("X-Durable-Workflow-Control-Plane-Version", "2"), ("X-Durable-Workflow-Protocol-Version", "1.1"),
    ("X-Request-Id", "a"), ("X-Correlation-Id", "a"), ("Content-Encoding", "identity"), ("X-Signature", "a"),
]  # fmt: skip


@pytest.mark.parametrize("path", ["/api/workflows", "/api/worker/register"])
@pytest.mark.parametrize(("name", "value"), TWICE)
def test_a_field_that_is_one_value_stands_once(edge: ServerProcess, name: str, value: str, path: str) -> None:
    """Equal or not, the first or the last: it is refused before anything it says is believed."""
    for others in (
        [(name, value), (name.lower(), value)],
        [(name, value), (name, "Bearer wrong")],
        [(name, "x"), (name, value)],
    ):
        fields = [(key, said) for key, said in {**BASE, **JSON}.items() if key != name] + others
        answer = ask(edge, head("POST", path, {"Content-Length": "2"}, base=fields) + b"{}")
        assert (answer.status, answer.json["reason"], answer.json["header"]) == (400, "repeated_header", name.lower())
        version = "x-durable-workflow-protocol-version" if "worker" in path else "x-durable-workflow-control-plane-version"
        assert answer.headers[version]


def test_a_field_that_is_a_list_may_stand_twice(edge: ServerProcess) -> None:
    lists = [("Accept-Encoding", ("gzip", "br;q=0")), ("Accept", ("a/b", "*/*")), ("Cookie", ("a=b", "c=d"))]
    fields = [(name, value) for name, values in lists for value in values]
    with Raw(edge) as raw:
        answer = raw.send(head("GET", "/api/cluster/info", fields)).answer()
        assert (answer.status, answer.headers["content-encoding"]) == (200, "gzip")
