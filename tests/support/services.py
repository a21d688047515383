"""One Postgres and one NATS per test session, with a fresh database and a fresh NATS prefix for whoever asks."""

from __future__ import annotations

import itertools
import os
import secrets
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from node.embedded import EmbeddedNats, EmbeddedPostgres
from node.supervisor import node_command

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Deployment:
    """Where one server or cluster keeps its things: a database and a NATS prefix of its own on shared services."""

    dsn: str
    nats_url: str
    prefix: str

    def environment(self) -> dict[str, str]:
        """The variables that lead a node here."""
        return {"DW_DATABASE_URL": self.dsn, "DW_NATS_URL": self.nats_url, "DW_NATS_PREFIX": self.prefix}

    def postgres_socket(self) -> Path:
        """Where Postgres listens."""
        where = parse_qs(urlsplit(self.dsn).query)
        return Path(where["host"][0]) / f".s.PGSQL.{where['port'][0]}"

    def through(self, socket_directory: Path, nats_url: str) -> Deployment:
        """The same place, reached by other addresses."""
        here = quote(str(self.postgres_socket().parent), safe="/")
        return replace(self, dsn=self.dsn.replace(f"host={here}", f"host={socket_directory}"), nats_url=nats_url)


class TestServices:
    """The services of a session; also used for a private pair that a test may stop, kill and restart."""

    __test__ = False

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="dw-test-"))
        self.directory.chmod(0o711)  # started by root, Postgres runs as another user
        self.postgres = EmbeddedPostgres(self.directory)
        # every prefix makes streams of its own, and their limits add up
        self.nats = EmbeddedNats(self.directory, max_memory_bytes=1024**4, max_file_bytes=1024**5)
        self._template: str | None = None

    def start(self) -> None:
        """Start both."""
        self.postgres.start()
        self.nats.start()

    def stop(self) -> None:
        """Stop both and have their data removed, which takes a while: hundreds of databases."""
        self.nats.stop()
        self.postgres.stop(immediately=True)
        subprocess.Popen(["rm", "-rf", str(self.directory)], start_new_session=True)

    def empty_database(self) -> str:
        """The connection string of a new database without tables."""
        return self.postgres.create_database(f"test_{os.getpid()}_{next(_numbers)}")

    def database(self) -> str:
        """The connection string of a new bootstrapped database (a copy of one that was bootstrapped by the command once)."""
        if self._template is None:
            name = f"template_{os.getpid()}_{next(_numbers)}"
            dsn = self.postgres.create_database(name)
            done = subprocess.run(
                node_command("bootstrap"),
                env=clean_environment({"DW_DATABASE_URL": dsn, "DW_BOOTSTRAP_RETRIES": "1"}),
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            self._template = name
        return self.postgres.create_database(f"test_{os.getpid()}_{next(_numbers)}", self._template)

    def deployment(self) -> Deployment:
        """A bootstrapped database and an unused NATS prefix."""
        return Deployment(self.database(), self.nats.url, f"t{secrets.token_hex(4)}")


def clean_environment(extra: dict[str, str] | None = None) -> dict[str, str]:
    """This process' environment without any configuration of a server, plus `extra`."""
    keep = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("DW_", "DB_", "WORKFLOW_", "ACTIVITY_TASK_", "APP_")) and name != "LOG_LEVEL"
    }
    return {**keep, "PYTHONUNBUFFERED": "1", **(extra or {})}
