"""The command `dw-server` as a user runs it."""

from __future__ import annotations

import re
import signal
import subprocess
from pathlib import Path
from typing import IO

from node.embedded.process import pids_where
from node.supervisor import node_command
from tests.support.services import clean_environment

READY = re.compile(r"Ready: (?P<url>http://\S+) \((?P<token>[^)]*)\).* Try: (?P<next>.*)")

CONTROL = {"X-Durable-Workflow-Control-Plane-Version": "2", "X-Namespace": "default"}


class Dev:
    """A running `dw-server dev`."""

    def __init__(self, directory: Path, port: int = 0, env: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.process = subprocess.Popen(
            node_command("dev", "--port", str(port), "--data-dir", str(directory)),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=clean_environment(env),
        )
        out: IO[str] | None = self.process.stdout
        assert out is not None
        self.line = out.readline().strip()
        match = READY.fullmatch(self.line)
        if match is None:
            self.process.kill()
            raise AssertionError(f"no ready line: {self.line!r}\n{self.process.communicate()[1]}")
        self.url, self.token, self.next = match["url"], match["token"], match["next"]

    def stop(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit code and what it wrote to standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors

    def __enter__(self) -> Dev:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def below(directory: Path) -> list[int]:
    return pids_where(lambda argv: any(part.startswith(str(directory)) for part in argv))


def run(*arguments: str, env: dict[str, str] | None = None, seconds: float = 30) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        node_command(*arguments), capture_output=True, text=True, env=clean_environment(env), timeout=seconds, check=False
    )
