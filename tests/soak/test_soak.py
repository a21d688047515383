"""A short soak, and what the soak itself rests on. The long one is `make soak`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from api.routes import ROUTES
from tests.soak.__main__ import arguments, soak
from tests.soak.judging import Fault, judge
from tests.soak.message import Members, Text, written
from tests.soak.mutations import mutate
from tests.soak.state import SoakState
from tests.soak.valid import request, weights
from tests.soak.wire import Answer


@pytest.mark.slow
def test_mutated_requests_over_all_routes_do_no_harm(tmp_path: Path) -> None:
    wrong = soak(arguments(["--requests", "1500", "--seed", "7", "--log", str(tmp_path)]))
    assert not wrong, "\n".join(wrong)


def test_a_seed_makes_the_same_requests() -> None:
    def made(seed: int) -> list[bytes]:
        rng, world = random.Random(seed), SoakState()
        found = [mutate(request(rng.choices(ROUTES, weights())[0], world, rng), rng) for _ in range(300)]
        return [each.plain() for each in found]

    assert made(5) == made(5) != made(6)


def test_every_route_has_a_valid_request() -> None:
    for route in ROUTES:
        made = request(route, SoakState(), random.Random(1))
        assert "{" not in made.target
        assert (made.body is not None) == (route.method in ("POST", "PUT"))


def test_values_are_written_as_they_are_meant() -> None:
    value = {"a": Members([("x", 1), ("x", Text(b"NaN"))]), "b": [Text(b"[[1]]"), "\x00"]}
    assert written(value) == b'{"a":{"x":1,"x":NaN},"b":[[[1]],"\\u0000"]}'


@pytest.mark.parametrize(
    ("status", "fields", "body"),
    [
        (500, {}, b'{"reason":"server_error","message":"m"}'),
        (503, {}, b'{"reason":"service_unavailable","message":"m"}'),
        (418, {}, b'{"reason":"x","message":"m"}'),
        (200, {"x-durable-workflow-control-plane-version": "2"}, b'{"workflows":[]}'),
        (200, {"x-durable-workflow-control-plane-version": "2"}, b'{"workflows":[NaN]}'),
        (200, {"x-durable-workflow-control-plane-version": "2"}, b'{"workflows":['),
        (422, {}, b'{"reason":"validation_failed","errors":{}}'),
    ],
)
def test_answers_outside_the_contract_are_faults(status: int, fields: dict[str, str], body: bytes) -> None:
    route = next(each for each in ROUTES if each.operation == "list")
    headers = {"content-type": "application/json", **fields}
    with pytest.raises(Fault):
        judge(request(route, SoakState(), random.Random(1)), Answer(status, headers, body))
