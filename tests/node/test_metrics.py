"""What a node hands to a collector of metrics (`base.observability.metrics`)."""

from __future__ import annotations

import asyncio
from collections import Counter

import httpx

from base.observability.metrics import INSTRUMENTS, Instrument, Labels
from node.config import Config
from node.http.server import base_url, bind
from node.server import Node
from node.wiring import assemble
from tests.api.conftest import CONTROL, WORKER
from tests.api.driver import Http
from tests.support.defaults import EDGE
from tests.support.server import DEFAULTS, TOKEN
from tests.support.services import TestServices

HEADERS = {**CONTROL, **WORKER, "Authorization": f"Bearer {TOKEN}"}


class Collector:
    """Keeps counts, the last value of gauges, and the values of histograms."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, Labels]] = Counter()
        self.gauges: dict[str, float] = {}
        self.values: dict[str, list[float]] = {}

    def count(self, instrument: Instrument, labels: Labels = (), by: int = 1) -> None:
        self._check(instrument, "counter", labels)
        self.counts[instrument.name, labels] += by

    def gauge(self, instrument: Instrument, value: float, labels: Labels = ()) -> None:
        self._check(instrument, "gauge", labels)
        self.gauges[instrument.name] = value

    def observe(self, instrument: Instrument, value: float, labels: Labels = ()) -> None:
        self._check(instrument, "histogram", labels)
        self.values.setdefault(instrument.name, []).append(value)

    def _check(self, instrument: Instrument, kind: str, labels: Labels) -> None:
        assert instrument in INSTRUMENTS and instrument.kind == kind and len(labels) == len(instrument.labels)


async def test_requests_polls_commits_and_the_events_that_wait_are_measured(services: TestServices) -> None:
    found = Collector()
    environment = {**DEFAULTS, **services.deployment().environment(), "DW_NODE_ID": "measured", "DW_WORKER_POLL_TIMEOUT": "1"}
    bound = bind("127.0.0.1", 0)
    node = Node(assemble(Config.read(environment), base_url(bound), metrics=found), bound, 5, EDGE)
    try:
        await node.start()
        await node.starting
        async with httpx.AsyncClient(base_url=node.url, headers=HEADERS, timeout=30) as client:
            http = Http(client)
            await http.register()
            await http.closed("w-1")
            assert await http.poll() is None
        async with asyncio.timeout(30):
            while "events_waiting" not in found.gauges or found.gauges["events_waiting"]:
                await asyncio.sleep(0.05)
    finally:
        await node.stop()
    assert found.counts["requests", ("POST", "/workflows", 201)] == 1
    assert found.counts["requests", ("POST", "/worker/workflow-tasks/poll", 200)] == 2
    assert found.counts["polls", ("workflow", "task")] == found.counts["polls", ("workflow", "empty")] == 1
    assert found.counts["commits", ("stored",)] >= 3  # start, claim, completion
    assert found.counts["commits", ("lost",)] == 0
    assert found.values["commit_seconds"] and all(0 < seconds < 60 for seconds in found.values["commit_seconds"])
