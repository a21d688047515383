"""`dw-server dev`: who may come in from where, and services that end by themselves."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from node.embedded.process import pids_where
from tests.support.commands import CONTROL, Dev, below

pytestmark = pytest.mark.proof

SECONDS = 40.0


def lan_address() -> str | None:
    """An address of this machine that others could reach."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return None if address.startswith("127.") else address


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as probe:
        try:
            probe.bind(("::", 0))
        except OSError:
            return False
        return True


def status(dev: Dev, token: str) -> int:
    headers = {"Authorization": f"Bearer {token}", **CONTROL} if token else CONTROL
    return httpx.get(f"{dev.url}/api/cluster/info", headers=headers, timeout=20).status_code


def test_a_server_that_others_can_reach_has_a_token_of_its_own(tmp_path: Path) -> None:
    addresses = ["0.0.0.0", '"0.0.0.0"', *(["::"] if has_ipv6() else []), *filter(None, [lan_address()])]
    file = tmp_path / "token"
    kept = ""
    for address in addresses:
        with Dev(tmp_path, env={"DW_HTTP_HOST": address}) as dev:
            token = file.read_text().strip()
            assert len(token) >= 32
            assert token == (kept or token), "the token is kept between starts"
            kept = token
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            assert (status(dev, "dev-token"), status(dev, token)) == (401, 200)
            assert dev.token == f"token in {file}"
            tried = subprocess.run(["bash", "-c", dev.next], capture_output=True, text=True, check=False)
            if tried.returncode != 127:  # curl is not everywhere
                assert '"server_id"' in tried.stdout
            code, errors = dev.stop()
            assert code == 0
            assert f"can be reached by others, so the token is a secret, kept in {file}" in errors
            assert token not in dev.line + errors


@pytest.mark.parametrize(
    ("host", "env", "token", "warned"),
    [
        ("localhost", {}, "dev-token", False),
        ("127.0.0.1", {}, "dev-token", False),
        ("0.0.0.0", {"DW_AUTH_TOKEN": "mine"}, "mine", False),
        ("0.0.0.0", {"DW_AUTH_TOKEN": "dev-token"}, "dev-token", True),
        ("0.0.0.0", {"DW_AUTH_DRIVER": "none"}, "", True),
    ],
)
def test_what_was_chosen_is_kept_and_said(tmp_path: Path, host: str, env: dict[str, str], token: str, warned: bool) -> None:
    with Dev(tmp_path, env={**env, "DW_HTTP_HOST": host}) as dev:
        assert status(dev, token) == 200
        assert not (tmp_path / "token").exists()
        _, errors = dev.stop()
        assert ("warning: whoever reaches 0.0.0.0 may do everything here" in errors) == warned


def test_a_service_that_dies_is_started_again_and_the_node_recovers(tmp_path: Path) -> None:
    with Dev(tmp_path) as dev:
        headers = {"Authorization": "Bearer dev-token", **CONTROL}

        def works() -> bool:
            body = {"workflow_type": "t", "task_queue": "q", "workflow_id": f"w-{time.monotonic_ns()}"}
            try:
                started = httpx.post(f"{dev.url}/api/workflows", headers=headers, json=body, timeout=20).status_code
                return started == 201 and httpx.get(f"{dev.url}/api/ready", timeout=20).status_code == 200
            except httpx.TransportError:
                return False

        assert works()
        for name in ("postgres", "nats-server", "postgres", "nats-server"):
            (pid,) = service(tmp_path, name)
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + SECONDS
            while not (works() and pid not in service(tmp_path, name) and service(tmp_path, name)):
                assert time.monotonic() < deadline, f"{name} does not come back"
                time.sleep(0.1)
        code, errors = dev.stop()
        assert code == 0, errors
        assert errors.count("the embedded Postgres ended by itself, it is started again") == 2
        assert errors.count("the embedded NATS ended by itself, it is started again") == 2
        assert "Traceback" not in errors
    assert below(tmp_path) == []


def service(directory: Path, name: str) -> list[int]:
    """The process of a service below a directory."""
    return pids_where(lambda argv: Path(argv[0]).name == name and any(part.startswith(str(directory)) for part in argv))
