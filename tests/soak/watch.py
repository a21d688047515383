"""What is watched beside the load: how long health takes, the node's memory, and its log.

`python -m tests.soak.watch PORT` is the prober, a process of its own, so that the load's own work does not count.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import os
import re
import select
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

INTERVAL_SECONDS = 0.1
_BAD = re.compile(r" (ERROR|CRITICAL) |Traceback|was never (awaited|retrieved)|Exception ignored")
_WARNING = re.compile(r" WARNING ([^:]+): (.{0,40})")


class Prober:
    """Asks for health every 100 ms from another process."""

    def __init__(self, port: int) -> None:
        command = [sys.executable, "-m", "tests.soak.watch", str(port)]
        # In a session of its own the scheduler does not count it and the load as one. It ends with its standard input.
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
        )

    def stop(self) -> list[float]:
        """How long each took, in milliseconds, sorted; inf for one that was not answered 200."""
        output, _ = self._process.communicate("", timeout=30)
        return sorted(float(line) for line in output.split())


def probe(port: int) -> None:
    """Ask until standard input ends, and write how long each answer took."""
    with contextlib.suppress(OSError):
        os.nice(-10)  # what is measured is the node, not how long the prober waits for its turn
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    due = time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        begun = time.perf_counter()
        try:
            connection.request("GET", "/api/health")
            answer = connection.getresponse()
            answer.read()
            took = (time.perf_counter() - begun) * 1000 if answer.status == 200 else float("inf")
        except (OSError, http.client.HTTPException):
            connection.close()
            took = float("inf")
        print(f"{took:.3f}", flush=True)
        due = max(due + INTERVAL_SECONDS, time.monotonic())


def percentile(ordered: list[float], share: float) -> float:
    """The value below which `share` of the values lie; 0 for none."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def rss_mib(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS:")) / 1024


class Memory:
    """Samples a process' memory with the share of the work that is done."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.samples: list[tuple[float, float]] = []

    async def watch(self, done: asyncio.Event, progress: list[float]) -> None:
        """Sample every half second until `done`; `progress[0]` is from 0 to 1."""
        while not done.is_set():
            self.samples.append((progress[0], rss_mib(self._pid)))
            await asyncio.sleep(0.5)

    def around(self, low: float, high: float) -> float:
        """The median within a part of the work."""
        found = [mib for share, mib in self.samples if low <= share <= high]
        return statistics.median(found or [self.samples[-1][1]])


def bad_lines(log: str) -> list[str]:
    """The lines of a log that should not be there."""
    return [line for line in log.splitlines() if _BAD.search(line)]


def warnings(log: str) -> Counter[str]:
    """The kinds of warnings in a log."""
    return Counter(f"{name}: {text}" for name, text in _WARNING.findall(log))


if __name__ == "__main__":
    probe(int(sys.argv[1]))
