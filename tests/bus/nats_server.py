"""A nats-server process of a test's own, to be killed, frozen, wiped and started again on the same port."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path


class NatsServer:
    """JetStream on, data under `folder`."""

    def __init__(self, folder: Path, config: str = "") -> None:
        self.folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        self.url = f"nats://127.0.0.1:{self.port}"
        self.config = config
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> NatsServer:
        """Start and wait until it accepts connections."""
        config = self.folder / "nats.conf"
        config.write_text(
            f'listen: "127.0.0.1:{self.port}"\njetstream {{ store_dir: "{self.folder / "data"}" }}\n{self.config}\n',
            encoding="utf-8",
        )
        binary = Path(sys.executable).parent / "nats-server"
        log = (self.folder / "nats.log").open("ab")
        self._process = subprocess.Popen([binary, "-c", config], stderr=log, stdout=log)
        log.close()
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def freeze(self) -> None:
        """Stop answering, keeping the sockets open; every thread stands still on return."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + 10
        while not self._still():
            assert time.monotonic() < deadline, "nats-server does not stop"
            time.sleep(0.005)

    def _still(self) -> bool:
        assert self._process is not None
        threads = Path(f"/proc/{self._process.pid}/task").iterdir()
        return all((thread / "stat").read_text().rpartition(") ")[2][0] == "T" for thread in threads)

    def thaw(self) -> None:
        """Go on after `freeze`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def wipe(self) -> None:
        """Lose all data (while stopped)."""
        assert self._process is None
        shutil.rmtree(self.folder / "data", ignore_errors=True)
