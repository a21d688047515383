"""The system under test: embedded Postgres and NATS, a bootstrapped database, and node processes, all of one run's own.

Durable storage lies below one fresh data directory; everything ends and the directory goes when the run is over.
"""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import NamedTuple

from node.embedded import EmbeddedNats, EmbeddedPostgres, free_port
from node.embedded.process import spawn

READY_SECONDS = 30.0
STOP_SECONDS = 15.0
OPEN_FILES = 16_384


class ClusterError(Exception):
    """The system under test did not start; the message holds the end of its log."""


class Cluster(NamedTuple):
    """A running system: the nodes' URLs, the root processes of each group whose CPU is measured, and the database."""

    urls: tuple[str, ...]
    groups: dict[str, list[int]]
    dsn: str


def _tail(log: Path, size: int = 3000) -> str:
    try:
        return log.read_text(errors="replace")[-size:]
    except FileNotFoundError:
        return "(no log)"


def _server() -> str:
    beside = Path(sys.executable).parent / "dw-server"
    found = str(beside) if beside.exists() else shutil.which("dw-server")
    if not found:
        raise ClusterError("no dw-server beside this interpreter or on PATH: install the project first")
    return found


def _is_ready(port: int) -> bool:
    connection = HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", "/api/ready")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def raise_file_limit() -> None:
    """Let this process and its children hold thousands of connections, as far as the machine allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Nodes:
    """Node processes, each in a process group of its own."""

    def __init__(self, data_dir: Path, environment: dict[str, str]) -> None:
        self._data_dir = data_dir
        self._environment = environment
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, number: int) -> str:
        """Start one node; returns its URL once it is ready."""
        port = free_port()
        log = self._data_dir / f"node-{number}.log"
        with log.open("wb") as output:
            process = spawn(
                [_server(), "serve", "--host", "127.0.0.1", "--port", str(port), "--node-id", f"bench-{number}"],
                death_signal=signal.SIGTERM,
                output=output,
                env=self._environment,
            )
        self.processes.append(process)
        deadline = time.monotonic() + READY_SECONDS
        while not _is_ready(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise ClusterError(f"node {number} is not ready (exit code {process.poll()}):\n{_tail(log)}")
            time.sleep(0.05)
        return f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.terminate()
        for process in self.processes:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@contextlib.contextmanager
def running(nodes: int, token: str, base: Path | None = None, more: Mapping[str, str] | None = None) -> Iterator[Cluster]:
    """Start a system with `nodes` nodes; `base` is where its data directory is made (default: the temporary directory).

    `more`: variables the nodes are given beside the usual ones.

    Raises `ClusterError` if a part of it does not start.
    """
    data_dir = Path(tempfile.mkdtemp(prefix="dw-bench-", dir=base))
    data_dir.chmod(0o755)  # started by root, Postgres runs as another user
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, data_dir, ignore_errors=True)
        postgres, nats = EmbeddedPostgres(data_dir), EmbeddedNats(data_dir)
        stack.callback(postgres.stop)
        dsn = postgres.start()
        stack.callback(nats.stop)
        nats_url = nats.start()
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("DW_", "DB_", "WORKFLOW_"))}
        environment |= {
            "DW_DATABASE_URL": dsn,
            "DW_NATS_URL": nats_url,
            "DW_AUTH_DRIVER": "token",
            "DW_AUTH_TOKEN": token,
            "DW_DATA_DIR": str(data_dir),
            **(more or {}),
        }
        bootstrap = subprocess.run([_server(), "bootstrap"], env=environment, capture_output=True, text=True, check=False)
        if bootstrap.returncode != 0:
            raise ClusterError(f"bootstrap failed ({bootstrap.returncode}):\n{bootstrap.stdout}{bootstrap.stderr}")
        group = _Nodes(data_dir, environment)
        stack.callback(group.stop)
        urls = tuple(group.start(number) for number in range(1, nodes + 1))
        if postgres.pid is None or nats.pid is None:
            raise ClusterError("an embedded service ended during the start")
        pids = [process.pid for process in group.processes]
        yield Cluster(urls, {"nodes": pids, "postgres": [postgres.pid], "nats": [nats.pid]}, dsn)
