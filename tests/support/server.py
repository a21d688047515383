"""A node as a process of its own, that a test can kill and start again."""

from __future__ import annotations

import asyncio
import http.client
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx

from node.embedded import free_port
from node.embedded.process import spawn, tail
from node.supervisor import node_command
from tests.support.services import Deployment, clean_environment

TOKEN = "dev-token"
READY_SECONDS = 30.0
DEFAULTS = {
    "DW_AUTH_TOKEN": TOKEN,
    "DW_WORKER_POLL_TIMEOUT": "2",
    "DW_SHUTDOWN_GRACE_SECONDS": "5",
    "LOG_LEVEL": "info",
}


class ServerProcess:
    """`dw-server serve` at a fixed port. Its output goes to `log_file`, over all its lives."""

    def __init__(
        self,
        place: Deployment,
        log_dir: Path,
        *,
        node_id: str = "node",
        env: dict[str, str] | None = None,
        args: tuple[str, ...] = (),
    ) -> None:
        self.place = place
        self.node_id = node_id
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.token = TOKEN
        self.log_file = log_dir / f"{node_id}-{self.port}.log"
        self._args = args
        self._env = {**DEFAULTS, **place.environment(), **(env or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> ServerProcess:
        """Start the process and wait until it is ready; `wait=False` leaves that to `ready`, which does not block a loop."""
        assert not self.running, "the server runs already"
        command = node_command("serve", "--host", "127.0.0.1", "--port", str(self.port), "--node-id", self.node_id, *self._args)
        with self.log_file.open("ab") as log:
            self._process = spawn(command, death_signal=signal.SIGKILL, output=log, env=clean_environment(self._env))
        return self.wait_ready() if wait else self

    def wait_ready(self) -> ServerProcess:
        """Wait until `/api/ready` answers 200, blocking; a server that does not get there is killed."""
        deadline = time.monotonic() + READY_SECONDS
        try:
            while not self.is_ready():
                self._check(deadline)
                time.sleep(0.02)
        except AssertionError:
            if self.running:
                self.kill()
            raise
        return self

    async def ready(self) -> ServerProcess:
        """Wait until `/api/ready` answers 200."""
        deadline = time.monotonic() + READY_SECONDS
        while not await asyncio.to_thread(self.is_ready):
            self._check(deadline)
            await asyncio.sleep(0.02)
        return self

    def is_ready(self) -> bool:
        """Whether `/api/ready` answers 200 now."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/api/ready")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    def kill(self) -> None:
        """kill -9."""
        self.signal(signal.SIGKILL)
        self.wait(5)

    def stop(self, seconds: float = 15.0) -> int:
        """SIGTERM, and the exit code; killed when it takes longer than `seconds`, which fails the test."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.terminate()
        return self.wait(seconds)

    def wait(self, seconds: float) -> int:
        """Wait for the end of the process; its exit code."""
        assert self._process is not None
        try:
            return self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(f"{self.node_id} did not end within {seconds} s\n{self.log_tail()}") from None

    def restart(self) -> ServerProcess:
        """Stop and start at the same port under the same node id."""
        self.stop()
        return self.start()

    def signal(self, number: int) -> None:
        """Send a signal, for example SIGSTOP."""
        assert self._process is not None
        self._process.send_signal(number)

    def client(self, **options: Any) -> httpx.AsyncClient:
        """An HTTP client with the headers of both planes set."""
        headers = {
            "Authorization": f"Bearer {self.token}",
            "X-Namespace": "default",
            "X-Durable-Workflow-Control-Plane-Version": "2",
            "X-Durable-Workflow-Protocol-Version": "1.1",
        }
        return httpx.AsyncClient(base_url=self.url, headers={**headers, **options.pop("headers", {})}, timeout=75, **options)

    def log_tail(self, lines: int = 40) -> str:
        """The last lines it wrote."""
        return tail(self.log_file, lines)

    def _check(self, deadline: float) -> None:
        if not self.running:
            raise AssertionError(f"{self.node_id} ended while it started\n{self.log_tail()}")
        if time.monotonic() > deadline:
            raise AssertionError(f"{self.node_id} is not ready after {READY_SECONDS} s\n{self.log_tail()}")


class Cluster:
    """Several nodes on one database and one NATS prefix."""

    def __init__(self, place: Deployment, log_dir: Path, env: dict[str, str] | None = None) -> None:
        self.place = place
        self.nodes: list[ServerProcess] = []
        self._log_dir = log_dir
        self._env = env or {}

    def add(self, *, wait: bool = True) -> ServerProcess:
        """Start one more node."""
        node = ServerProcess(self.place, self._log_dir, node_id=f"node-{len(self.nodes) + 1}", env=self._env)
        self.nodes.append(node)
        return node.start(wait=wait)

    def __getitem__(self, index: int) -> ServerProcess:
        return self.nodes[index]

    def stop(self) -> None:
        """Stop all nodes that still run."""
        for node in self.nodes:
            if node.running:
                node.signal(signal.SIGTERM)
        for node in self.nodes:
            node.stop()
