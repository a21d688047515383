"""Fixtures for tests that need real services or a running server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.server import Cluster, ServerProcess
from tests.support.services import Deployment, TestServices


@pytest.fixture(scope="session")
def services() -> Iterator[TestServices]:
    """Postgres and NATS shared by the session. Do not stop these: tests that do so use `own_services`."""
    running = TestServices()
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def own_services() -> Iterator[TestServices]:
    """Postgres and NATS of one test, to be stopped, killed and restarted at will."""
    running = TestServices()
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def place(services: TestServices) -> Deployment:
    """A bootstrapped database and a NATS prefix nobody else uses."""
    return services.deployment()


@pytest.fixture(scope="module")
def server(services: TestServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A running node with token `dev-token` and polls of two seconds, shared by the tests of a module."""
    process = ServerProcess(services.deployment(), tmp_path_factory.mktemp("server"))
    try:
        yield process.start()
    finally:
        process.stop()


_PROOF_SECONDS = 1200
_TESTS = Path(__file__).parent
_ORDER = {folder: place for place, folder in enumerate(("differential", "cluster", "node", "bus", "sdk", "placement", "store"))}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Proofs take minutes, so they hang later than other tests; folders whose tests take long begin.

    A module is run by one process: a long one that comes last is waited for by all.
    """
    items.sort(key=lambda item: _ORDER.get(item.path.relative_to(_TESTS).parts[0], len(_ORDER)))
    for item in items:
        if item.get_closest_marker("proof") is not None and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_PROOF_SECONDS))


@pytest.fixture(autouse=True)
def no_failed_callbacks() -> Iterator[None]:
    """A callback that raises ends silently, and whoever waits for what it should have done waits for ever."""
    failed = _FailedCallbacks()
    logger = logging.getLogger("asyncio")
    logger.addHandler(failed)
    yield
    logger.removeHandler(failed)
    assert not failed.texts, "\n".join(failed.texts)


class _FailedCallbacks(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        cancelled = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
        if record.getMessage().startswith("Exception in callback") and not cancelled:  # asyncio's own, of streams
            self.texts.append(logging.Formatter().format(record))


class MakeCluster:
    """Starts clusters for a test and remembers them."""

    def __init__(self, new_place: Callable[[], Deployment], log_dir: Path) -> None:
        self.made: list[Cluster] = []
        self._new_place = new_place
        self._log_dir = log_dir

    def __call__(self, size: int, *, place: Deployment | None = None, env: dict[str, str] | None = None) -> Cluster:
        """`size` ready nodes on one database."""
        new = Cluster(place or self._new_place(), self._log_dir, env)
        self.made.append(new)
        for _ in range(size):
            new.add(wait=False)
        for node in new.nodes:
            node.wait_ready()
        return new


@pytest.fixture
def cluster(services: TestServices, tmp_path: Path) -> Iterator[MakeCluster]:
    """`cluster(n, place=..., env={...})` starts n nodes on one database; all are stopped after the test."""
    make = MakeCluster(services.deployment, tmp_path)
    yield make
    for each in make.made:
        each.stop()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Show the end of the servers' logs with a failed test."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.when != "call" or not report.failed:
        return
    for process in _servers_of(getattr(item, "funcargs", {})):
        report.sections.append((f"log of {process.node_id}", process.log_tail()))


def _servers_of(fixtures: dict[str, Any]) -> list[ServerProcess]:
    found: list[ServerProcess] = []
    for value in fixtures.values():
        if isinstance(value, ServerProcess):
            found.append(value)
        elif isinstance(value, MakeCluster):
            found.extend(node for made in value.made for node in made.nodes)
    return found
