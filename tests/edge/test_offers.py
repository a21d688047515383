"""A request that offers an upgrade is served whole, as if it had not (RFC 9110, 7.8)."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.edge.conftest import Running, start
from tests.edge.raw import Fields, Raw, ask, chunked_request, head, request
from tests.support.server import ServerProcess

OFFERS: dict[str, Fields] = {
    "h2c": [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAEAAEAAAAIAAAABAAMAAABk")],
    "websocket": [("Connection", "keep-alive, Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Key", "a")],
    "TLS": [("Connection", "Upgrade"), ("Upgrade", "TLS/1.0")],
}
MAKERS: dict[str, Callable[..., bytes]] = {"length": request, "chunks": chunked_request}


@pytest.mark.parametrize("singly", [False, True])
@pytest.mark.parametrize("framing", MAKERS)
@pytest.mark.parametrize("offer", OFFERS)
def test_an_offer_to_upgrade_is_ignored(
    edge: ServerProcess, running: Callable[[], Running], offer: str, framing: str, singly: bool
) -> None:
    """Both planes, several requests in a row on one connection; what is pipelined behind an offer is answered, too."""
    make, fields = MAKERS[framing], OFFERS[offer]
    run = running()
    sent = (
        make("POST", f"{run.path}/signal/go", {"input": ["one"]}, fields)
        + make("POST", f"{run.path}/signal/go", {"input": ["two"]}, fields)
        + make("POST", "/api/worker/register", {"worker_id": "w", "task_queue": "edge", "runtime": "python"}, fields)
        + head("GET", run.path, fields)
        + make("POST", f"{run.path}/cancel", {"reason": "enough of this"}, fields)
        + head("GET", "/api/health")
    )
    with Raw(edge) as raw:
        if singly:
            raw.send_singly(sent)
        else:
            raw.send(sent)
        answers = [raw.answer() for _ in range(6)]
    assert [answer.status for answer in answers] == [202, 202, 201, 200, 200, 200], answers
    assert answers[3].json["workflow_id"] == run.id
    assert len(run.signals()) == 2
    history = json.dumps(ask(edge, request("GET", f"{run.path}/runs/{run.run_id}/history")).json)
    assert "enough of this" in history


@pytest.mark.parametrize("offer", OFFERS)
def test_a_body_behind_an_offer_is_never_a_request(edge: ServerProcess, running: Callable[[], Running], offer: str) -> None:
    run, victim = running(), running()
    hidden = request("POST", f"{victim.path}/terminate", {"reason": "smuggled"})
    for make in MAKERS.values():
        with Raw(edge) as raw:
            raw.send(
                make("POST", f"{run.path}/signal/go", hidden, OFFERS[offer])
                + head("GET", "/api/health", {"Connection": "close"})
            )
            answers = raw.answers()
        assert [answer.status for answer in answers] == [400, 200]
        assert answers[0].json["reason"] == "malformed_json"
    assert not [name for name in victim.types() if "erminat" in name]


@pytest.mark.parametrize("offer", OFFERS)
def test_an_offer_with_a_body_that_comes_later(edge: ServerProcess, offer: str) -> None:
    body = json.dumps(start(f"late-{offer}", input=["x" * 100_000])).encode()
    whole = request("POST", "/api/workflows", body, OFFERS[offer])
    cut = whole.index(b"\r\n\r\n") + 4
    with Raw(edge) as raw:
        answer = raw.send(whole[:cut], whole[cut : cut + 10], whole[cut + 10 :], pause=0.1).answer()
        assert answer.status == 201
        assert raw.send(head("GET", "/api/health")).answer().status == 200


def test_an_offer_of_the_last_request_is_ignored(edge: ServerProcess) -> None:
    fields: Fields = [("Connection", "Upgrade, close"), ("Upgrade", "h2c")]
    with Raw(edge) as raw:
        raw.send(
            request("POST", "/api/workflows", start("last-offer"), fields) + request("POST", "/api/workflows", start("behind"))
        )
        assert [answer.status for answer in raw.answers()] == [201]
    assert ask(edge, head("GET", "/api/workflows/behind")).status == 404


def test_many_offers_in_one_packet(edge: ServerProcess) -> None:
    with Raw(edge) as raw:
        raw.send(head("GET", "/api/nothing", OFFERS["TLS"]) * 200)
        assert [raw.answer().status for _ in range(200)] == [404] * 200


def test_a_tunnel_is_refused(edge: ServerProcess, running: Callable[[], Running]) -> None:
    victim = running()
    with Raw(edge) as raw:
        raw.send(head("CONNECT", "localhost:80") + request("POST", f"{victim.path}/terminate", {}))
        assert [answer.status for answer in raw.answers()] == [501]
    assert not [name for name in victim.types() if "erminat" in name]
