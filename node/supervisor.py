"""Several nodes of one machine on one port: child processes that are restarted when they crash and stopped together."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType

from base.observability.actions import said
from node.embedded.process import spawn

log = logging.getLogger("dw.node")

RESTART_SECONDS = (0.2, 5.0)
HEALTHY_SECONDS = 10.0
LOOK_SECONDS = 0.1
# a node stopped while its interpreter was still starting had nothing to put in order
CLEAN_EXITS = (0, -signal.SIGTERM)


class Supervisor:
    """Keeps one process per command alive until told to stop (SIGTERM or SIGINT)."""

    def __init__(self, commands: Sequence[Sequence[str]], grace_seconds: float) -> None:
        """`grace_seconds`: how long the children have to end after SIGTERM before they are killed."""
        self._commands = commands
        self._grace = grace_seconds
        self._children: list[subprocess.Popen[bytes] | None] = [None] * len(commands)
        self._started_at = [0.0] * len(commands)
        self._pause = [RESTART_SECONDS[0]] * len(commands)
        self._due = [0.0] * len(commands)
        self._told = threading.Event()

    def run(self) -> int:
        """Run until told to stop; the exit code is 0 when every child ended cleanly."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        try:
            while not self._told.is_set():
                self._look()
                self._told.wait(LOOK_SECONDS)
        finally:
            clean = self._stop_all()
        return 0 if clean else 1

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._told.set()

    def _look(self) -> None:
        now = time.monotonic()
        for index, child in enumerate(self._children):
            if child is not None and child.poll() is not None:
                lived = now - self._started_at[index]
                first, longest = RESTART_SECONDS
                self._pause[index] = first if lived > HEALTHY_SECONDS else min(self._pause[index] * 2, longest)
                log.warning(
                    "node process %d ended with %s, restarted in %.1f s",
                    child.pid,
                    child.returncode,
                    self._pause[index],
                    extra=said("process.ended", pid=child.pid, seconds=self._pause[index]),
                )
                self._children[index] = None
                self._due[index] = now + self._pause[index]
            if self._children[index] is None and now >= self._due[index]:
                self._children[index] = spawn(
                    self._commands[index], death_signal=signal.SIGTERM, output=None, env=dict(os.environ)
                )
                self._started_at[index] = now

    def _stop_all(self) -> bool:
        running = [child for child in self._children if child is not None and child.poll() is None]
        for child in running:
            child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + self._grace
        clean = True
        for child in running:
            try:
                clean &= child.wait(max(0.1, deadline - time.monotonic())) in CLEAN_EXITS
            except subprocess.TimeoutExpired:
                log.error("node process %d does not end, killed", child.pid, extra=said("process.killed", pid=child.pid))
                child.kill()
                child.wait()
                clean = False
        return clean


def node_command(*arguments: str) -> list[str]:
    """The command line that runs `dw-server` with `arguments` in a process of its own."""
    return [sys.executable, "-m", "node.cli", *arguments]
