"""The command `dw-server` as a user meets it: processes, signals, ready line, exit codes, no orphans."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from node.embedded import free_port
from node.supervisor import node_command
from tests.support.commands import (
    CONTROL,
    Dev,
    below,
    run,
)
from tests.support.server import ServerProcess
from tests.support.services import Deployment, TestServices, clean_environment

# -- dev ---------------------------------------------------------------------------------------------------------------


def test_dev_is_ready_keeps_its_data_and_stops_cleanly(tmp_path: Path) -> None:
    auth = {"Authorization": "Bearer dev-token", **CONTROL}
    with Dev(tmp_path) as dev:
        assert dev.token == "token dev-token"
        assert httpx.get(f"{dev.url}/api/ready").status_code == 200
        assert httpx.get(f"{dev.url}/api/cluster/info").status_code == 401
        tried = subprocess.run(["bash", "-c", dev.next], capture_output=True, text=True, check=False)
        if tried.returncode != 127:  # curl is not everywhere
            assert '"server_id"' in tried.stdout
        created = httpx.post(f"{dev.url}/api/namespaces", headers=auth, json={"name": "kept", "retention_days": 5})
        assert created.status_code == 201, created.text
        assert below(tmp_path)
        code, errors = dev.stop()
        assert code == 0, errors
        assert "ERROR" not in errors, errors
    assert below(tmp_path) == []
    with Dev(tmp_path) as dev:
        assert httpx.get(f"{dev.url}/api/namespaces/kept", headers=auth).json()["retention_days"] == 5
        code, errors = dev.stop(signal.SIGINT)
        assert code == 0, errors
    assert below(tmp_path) == []


def test_dev_survives_its_own_kill(tmp_path: Path) -> None:
    with Dev(tmp_path) as dev:
        dev.process.kill()
    with Dev(tmp_path) as dev:
        assert httpx.get(f"{dev.url}/api/ready").status_code == 200
        assert dev.stop()[0] == 0
    assert below(tmp_path) == []


def test_dev_honours_credentials_and_drivers(tmp_path: Path) -> None:
    with Dev(tmp_path, env={"DW_AUTH_TOKEN": "mine"}) as dev:
        assert dev.token == "token $DW_AUTH_TOKEN"
        assert "mine" not in dev.line
        assert httpx.get(f"{dev.url}/api/cluster/info", headers={"Authorization": "Bearer dev-token"}).status_code == 401
        assert httpx.get(f"{dev.url}/api/cluster/info", headers={"Authorization": "Bearer mine"}).status_code == 200
        dev.stop()
    with Dev(tmp_path, env={"DW_AUTH_DRIVER": "none"}) as dev:
        assert dev.token == "no token needed"
        assert httpx.get(f"{dev.url}/api/cluster/info").status_code == 200
        dev.stop()


def test_dev_on_a_taken_port_or_directory_says_so_and_starts_nothing(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        done = run("dev", "--port", str(taken.getsockname()[1]), "--data-dir", str(tmp_path))
    assert done.returncode == 1
    assert "can not listen on 127.0.0.1" in done.stderr
    assert list(tmp_path.iterdir()) == []
    with Dev(tmp_path) as dev:
        second = run("dev", "--port", "0", "--data-dir", str(tmp_path))
        assert second.returncode == 1
        assert "in use by another server" in second.stderr
        assert httpx.get(f"{dev.url}/api/ready").status_code == 200
        dev.stop()


# -- bootstrap ---------------------------------------------------------------------------------------------------------


def test_bootstrap_twice(services: TestServices) -> None:
    env = {"DW_DATABASE_URL": services.empty_database()}
    for _ in range(2):
        done = run("bootstrap", "--force", env=env)
        assert (done.returncode, done.stdout) == (0, "bootstrap: everything is in place\n"), done.stderr


def test_bootstrap_waits_for_the_database(own_services: TestServices) -> None:
    dsn = own_services.empty_database()
    own_services.postgres.stop()
    env = {"DW_DATABASE_URL": dsn, "DW_BOOTSTRAP_RETRIES": "50", "DW_BOOTSTRAP_DELAY_SECONDS": "1"}
    process = subprocess.Popen(node_command("bootstrap"), stderr=subprocess.PIPE, text=True, env=clean_environment(env))
    assert process.stderr is not None
    assert process.stderr.readline().startswith("bootstrap attempt 1 of 50 failed: ")
    own_services.postgres.start()
    _, rest = process.communicate(timeout=20)
    assert process.returncode == 0, rest


def test_bootstrap_gives_up(tmp_path: Path) -> None:
    env = {
        "DW_DATABASE_URL": f"postgresql://u:secret@127.0.0.1:{free_port()}/d",
        "DW_BOOTSTRAP_RETRIES": "2",
        "DW_BOOTSTRAP_DELAY_SECONDS": "0",
    }
    done = run("bootstrap", env=env)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert [line.split(" failed")[0] for line in lines] == [
        "bootstrap attempt 1 of 2",
        "bootstrap attempt 2 of 2",
        "dw-server: bootstrap",
    ]
    assert "2 attempts" in lines[-1]
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "env", "mentions"),
    [
        (("serve",), {}, "DW_DATABASE_URL"),
        (("serve",), {"DW_MODE": "embedded"}, "DW_MODE"),
        (("bootstrap",), {"DB_CONNECTION": "mysql"}, "DB_CONNECTION"),
        (("bootstrap",), {"DW_DATABASE_URL": "postgresql://u:hun/ter2@h/d"}, "DW_DATABASE_URL"),
        (("serve",), {"DW_DATABASE_URL": "postgresql://u:hun#ter2@h/d"}, "DW_DATABASE_URL"),
        (("serve",), {"DW_DATABASE_URL": "postgresql://h/d", "DW_NATS_URL": "nats://u:hun/ter2@h"}, "DW_NATS_URL"),
    ],
)
def test_configuration_that_can_not_work_ends_with_a_message(
    arguments: tuple[str, ...], env: dict[str, str], mentions: str
) -> None:
    done = run(*arguments, env=env)
    assert done.returncode == 1
    assert mentions in done.stderr
    assert "Traceback" not in done.stderr
    assert not re.search("hun|ter2", done.stderr)


# -- serve -------------------------------------------------------------------------------------------------------------


def test_serve_answers_and_stops_cleanly(place: Deployment, tmp_path: Path) -> None:
    server = ServerProcess(place, tmp_path, node_id="solo").start()
    auth = {"Authorization": f"Bearer {server.token}"}
    assert httpx.get(f"{server.url}/api/cluster/info", headers=auth).json()["server_id"] == "solo"
    assert server.stop() == 0
    assert "node solo is ready" in server.log_tail(100)
    assert "ERROR" not in server.log_tail(100)


def test_serve_after_kill_and_restart(place: Deployment, tmp_path: Path) -> None:
    server = ServerProcess(place, tmp_path).start()
    for _ in range(2):
        server.kill()
        assert not server.is_ready()
        server.start()
    assert server.restart().is_ready()
    assert server.stop() == 0


def test_serve_before_bootstrap_is_alive_but_not_ready(services: TestServices, tmp_path: Path) -> None:
    dsn = services.empty_database()
    place = Deployment(dsn, services.nats.url, "unready")
    server = ServerProcess(place, tmp_path).start(wait=False)
    try:
        _wait_for(f"{server.url}/api/health", 200)
        answer = httpx.get(f"{server.url}/api/ready")
        assert answer.status_code == 503
        assert answer.json()["checks"]["migrations"]["status"] == "missing"
        assert run("bootstrap", env={"DW_DATABASE_URL": dsn}).returncode == 0
        _wait_for(f"{server.url}/api/ready", 200)
        headers = {"Authorization": f"Bearer {server.token}", **CONTROL}
        _wait_for(f"{server.url}/api/workflows/none", 404, headers)
    finally:
        assert server.stop() == 0


def test_serve_while_the_database_is_away(own_services: TestServices, tmp_path: Path) -> None:
    place = own_services.deployment()
    own_services.postgres.stop()
    server = ServerProcess(place, tmp_path).start(wait=False)
    try:
        _wait_for(f"{server.url}/api/health", 503)
        own_services.postgres.start()
        server.wait_ready()
    finally:
        assert server.stop() == 0


def test_bad_port_is_refused() -> None:
    assert run("serve", "--port", "70000").returncode == 2


@pytest.fixture
def two_processes(place: Deployment, tmp_path: Path) -> Iterator[ServerProcess]:
    server = ServerProcess(place, tmp_path, node_id="pair", args=("--processes", "2")).start()
    yield server
    server.stop()


def _nodes(server: ServerProcess) -> list[psutil.Process]:
    return psutil.Process(server.pid).children()


def test_processes_share_a_port_are_restarted_and_stopped_together(two_processes: ServerProcess) -> None:
    server = two_processes
    deadline = time.monotonic() + 20
    seen: set[str] = set()
    auth = {"Authorization": f"Bearer {server.token}"}
    while seen != {"pair-1", "pair-2"}:
        assert time.monotonic() < deadline, f"only {seen} answer"
        seen.add(httpx.get(f"{server.url}/api/cluster/info", headers=auth).json()["server_id"])
    nodes = _nodes(server)
    assert len(nodes) == 2
    nodes[0].kill()
    _until(lambda: len(_live(_nodes(server))) == 2 and nodes[0].pid not in {node.pid for node in _live(_nodes(server))})
    server.wait_ready()
    remaining = _live(_nodes(server))
    assert server.stop() == 0
    assert not any(node.is_running() and node.status() != psutil.STATUS_ZOMBIE for node in remaining)


def test_processes_die_with_a_killed_parent(two_processes: ServerProcess) -> None:
    nodes = _nodes(two_processes)
    two_processes.kill()
    _until(lambda: not _live(nodes))


def _live(processes: list[psutil.Process]) -> list[psutil.Process]:
    return [each for each in processes if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]


def _until(condition: object, seconds: float = 15.0) -> None:
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _wait_for(url: str, status: int, headers: dict[str, str] | None = None, seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    last: object = None
    while time.monotonic() < deadline:
        try:
            answer = httpx.get(url, headers=headers)
            last = (answer.status_code, answer.text[:300])
            if answer.status_code == status:
                return
        except httpx.TransportError as error:
            last = error
        time.sleep(0.05)
    raise AssertionError(f"{url} does not answer {status}: {last}")


def test_environment_of_this_test_is_clean() -> None:
    assert not [name for name in clean_environment() if name.startswith("DW_")]
    assert "PATH" in clean_environment() or "PATH" not in os.environ
