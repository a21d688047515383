"""Clients that stop in the middle, do not read, or leave: they cost little, for a short time, and no line too many."""

from __future__ import annotations

import concurrent.futures
import itertools
import socket
import struct
import time

import psutil
import pytest

from tests.edge.raw import BASE, JSON, Answer, Raw, ask, head, request
from tests.support.server import ServerProcess

pytestmark = pytest.mark.proof

LENGTH = {"Content-Length": "100"}
CHUNKED = {"Transfer-Encoding": "chunked"}
HALVES = {
    "nothing": (b"", None, 4),
    "line ends": (b"\r\n" * 20, None, 4),
    "half a method": (b"PO", 408, 2),
    "half a head": (head("POST", "/api/workflows")[:-2], 408, 2),
    "no body": (head("POST", "/api/workflows", JSON, LENGTH), 408, 3),
    "half a body": (head("POST", "/api/workflows", JSON, LENGTH) + b"{", 408, 3),
    "half a chunk": (head("POST", "/api/workflows", JSON, CHUNKED) + b"ff\r\n{", 408, 3),
    "half a trailer": (head("POST", "/api/workflows", JSON, CHUNKED) + b"2\r\n{}\r\n0\r\nX: ", 408, 3),
}


def _give_up(server: ServerProcess, case: str, used: bool, dripping: bool) -> None:
    sent, status, seconds = HALVES[case]
    with Raw(server) as raw:
        if used:
            assert raw.send(head("GET", "/api/health")).answer().status == 200
        begun = time.monotonic()
        answers: list[Answer] = []
        try:
            raw.send(sent[:-10], *(sent[at : at + 1] for at in range(len(sent))[-10:]), pause=0.2 if dripping else 0)
            answers = raw.answers()
        except ConnectionError:
            assert dripping, case
            status = None
        took = time.monotonic() - begun
        assert seconds - 0.2 <= took < seconds + 15, (case, took)
        assert [answer.status for answer in answers] == ([] if status is None else [status]), case


def test_a_request_has_a_bounded_time(edge: ServerProcess) -> None:
    """In whatever part of it the client stops, on a fresh connection or a used one, also when it sends a byte now and then."""
    cases = [
        (edge, *rest) for rest in itertools.product(HALVES, (False, True), (False, True)) if HALVES[rest[0]][0] or not rest[2]
    ]
    with concurrent.futures.ThreadPoolExecutor(len(cases)) as pool:
        list(pool.map(_give_up, *zip(*cases, strict=True)))


def test_a_poll_that_is_held_is_not_idle(edge: ServerProcess) -> None:
    worker = {"worker_id": "patient", "task_queue": "patient"}
    with Raw(edge) as raw:
        assert raw.send(request("POST", "/api/worker/register", {**worker, "runtime": "python"})).answer().status == 201
        begun = time.monotonic()
        answer = raw.send(request("POST", "/api/worker/workflow-tasks/poll", worker)).answer()
        assert (answer.status, answer.json["task"]) == (200, None)
        assert time.monotonic() - begun > 6
        assert raw.send(head("GET", "/api/health")).answer().status == 200


def test_a_half_request_behind_a_held_poll_has_its_time_from_then_on(edge: ServerProcess) -> None:
    worker = {"worker_id": "patient-2", "task_queue": "patient"}
    assert ask(edge, request("POST", "/api/worker/register", {**worker, "runtime": "python"})).status == 201
    with Raw(edge) as raw:
        raw.send(request("POST", "/api/worker/workflow-tasks/poll", worker) + b"GET /api/hea")
        assert raw.answer().status == 200
        assert raw.send(b"lth HTTP/1.1\r\nHost: x\r\n\r\n").answer().status == 200


def test_a_client_that_leaves_while_it_is_answered_leaves_no_trace(edge: ServerProcess) -> None:
    before = edge.log_file.read_text()
    for number in range(300):
        raw = Raw(edge)
        raw.send(head("GET", "/api/workflows?page_size=40") + head("GET", "/api/nothing", BASE) * (number % 3))
        if number % 2:
            raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        time.sleep(0.001 * (number % 7))
        raw.socket.close()
    assert ask(edge, head("GET", "/api/health")).status == 200
    assert edge.log_file.read_text()[len(before) :].count("\n") < 3


def test_malformed_requests_do_not_flood_the_log(edge: ServerProcess) -> None:
    before = len(edge.log_file.read_text())
    for _ in range(300):
        assert ask(edge, b"\x16\x03\x01nonsense\r\n\r\n").status == 400
    lines = edge.log_file.read_text()[before:].splitlines()
    assert len(lines) <= 2, lines


def test_what_is_pipelined_behind_a_held_poll_costs_little(edge: ServerProcess) -> None:
    """30 connections hold a poll and send thousands of requests behind it; all are answered, in order, when it ends."""
    worker = {"worker_id": "piped", "task_queue": "piped"}
    assert ask(edge, request("POST", "/api/worker/register", {**worker, "runtime": "python"})).status == 201
    process = psutil.Process(edge.pid)
    memory = process.memory_info().rss
    small = b"GET /x HTTP/1.1\r\nHost:x\r\n\r\n"
    crowd = [Raw(edge) for _ in range(30)]
    try:
        for each in crowd:
            each.send(request("POST", "/api/worker/workflow-tasks/poll", worker) + small * 1900)
        time.sleep(1)
        assert process.memory_info().rss - memory < 60 * 1024 * 1024
        assert [crowd[0].answer().status for _ in range(1901)] == [200] + [404] * 1900
    finally:
        for each in crowd:
            each.socket.close()
