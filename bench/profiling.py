"""A sampling profile of a node during the measured window, with py-spy where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

SAMPLES_PER_SECOND = 200
HOTTEST = 30


class Profile:
    """Recording of one process; the CPU numbers of a profiled run include the profiler's disturbance."""

    def __init__(self, pid: int, seconds: float, output: Path) -> None:
        """Start recording process `pid` for `seconds` into `output` (collapsed stacks). FileNotFoundError without py-spy."""
        beside = Path(sys.executable).parent / "py-spy"
        program = str(beside) if beside.exists() else shutil.which("py-spy")
        if program is None:
            raise FileNotFoundError("py-spy is not installed")
        output.parent.mkdir(parents=True, exist_ok=True)
        self._output = output
        self._process = subprocess.Popen(
            [
                *(program, "record", "--nonblocking", "--format", "raw", "--rate", str(SAMPLES_PER_SECOND)),
                *("--duration", str(max(1, int(seconds))), "--pid", str(pid), "--output", str(output)),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def finish(self) -> str:
        """Wait for the recording's end; the hottest functions as text, or why there are none."""
        try:
            _, errors = self._process.communicate(timeout=60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            _, errors = self._process.communicate()
        if not self._output.exists():
            return f"no profile: {errors.decode(errors='replace')[-500:]}"
        return hottest(self._output.read_text().splitlines())


def hottest(stacks: Iterable[str]) -> str:
    """The functions with the most samples of their own in collapsed stacks (`a;b;c 12`), most first."""
    own: Counter[str] = Counter()
    within: Counter[str] = Counter()
    for line in stacks:
        frames, _, count = line.rpartition(" ")
        if not count.isdigit():
            continue
        names = [f"{frame.rpartition(':')[0]})" if ":" in frame else frame for frame in frames.split(";")]
        own[names[-1]] += int(count)
        for name in set(names):
            within[name] += int(count)
    total = max(1, own.total())
    lines = [
        f"{100 * samples / total:6.1f}% {100 * within[name] / total:6.1f}%  {name}"
        for name, samples in own.most_common(HOTTEST)
    ]
    return "\n".join(["   own   within  function", *lines])
