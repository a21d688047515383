"""Every program under examples/ runs against a real server as a reader would run it, and prints what it promises.

They run side by side, as most of their time is waiting.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import ServerProcess
from tests.support.services import clean_environment

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SECONDS = 120.0
FOLLOWED = 40  # events; together the others record more
README_URL = "http://localhost:8080"

ORDER = ["StartAccepted", "WorkflowStarted", "ActivityScheduled", "ActivityStarted", "ActivityCompleted", "WorkflowCompleted"]

PRINTS = {
    "quickstart.py": "{'greeting': 'Hello, world!', 'length': 5}",
    "signals_and_queries.py": "so far: ['alice']\n"
    "result: {'order': 'order-42', 'approved': True, 'by': ['alice', 'bob']}\n"
    "afterwards: ['alice', 'bob']",
    "children.py": "sea@320 sea@640\nhill@320 hill@640\ntown@320 town@640",
    "saga.py": "booked flight\nbooked hotel\ncancelled hotel-1\ncancelled flight-1\n"
    "{'booked': [], 'because': 'no car is left'}",
    "continue_as_new.py": "{'rounds': 8, 'total': 140}\nrun 1 completed\nrun 2 completed\nrun 3 completed",
    "schedules.py": "2026-01-01T05:00:00+00:00 started\n2026-02-01T05:00:00+00:00 started\n2026-03-01T05:00:00+00:00 started\n"
    "triggered -> report for sales\nsix runs, and it is gone\n"
    "Created Triggered Triggered Triggered Triggered Updated Triggered Triggered Deleted",
}


class Programs:
    """Programs beside one server."""

    def __init__(self, server: ServerProcess) -> None:
        place = server.place.environment()
        environment = {"DW_URL": server.url, "DW_TOKEN": server.token, "PYTHONWARNINGS": "error::RuntimeWarning"}
        self._environment = clean_environment(
            {**environment, **{name: place[name] for name in ("DW_NATS_URL", "DW_NATS_PREFIX")}}
        )
        self._running: dict[str, subprocess.Popen[str]] = {}

    def start(self, name: str, *command: str) -> None:
        """Start a program under a name."""
        self._running[name] = subprocess.Popen(
            command, cwd=ROOT, env=self._environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def printed(self, name: str) -> str:
        """What it printed, when it has ended well."""
        program = self._running[name]
        out, errors = program.communicate(timeout=SECONDS)
        assert program.returncode == 0, errors
        return out.strip()

    def stop(self) -> None:
        """End those that still run."""
        for program in self._running.values():
            if program.poll() is None:
                program.kill()
                program.communicate()


@pytest.fixture(scope="module")
def programs(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Programs]:
    """All examples, the program of the README among them, started at the same time."""
    started = Programs(server)
    try:
        for name in PRINTS:
            started.start(name, sys.executable, str(EXAMPLES / name))
        if shutil.which("curl"):
            started.start("curl", "bash", str(EXAMPLES / "worker_with_curl.sh"))
        started.start("subscriber", sys.executable, str(EXAMPLES / "subscribe_events.py"), str(FOLLOWED))
        readme = tmp_path_factory.mktemp("readme") / "readme.py"
        readme.write_text(readme_program().replace(README_URL, server.url), encoding="utf-8")
        started.start("readme", sys.executable, str(readme))
        yield started
    finally:
        started.stop()


def readme_program() -> str:
    """The one program on the README's first screen."""
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert f'"{README_URL}"' in program
    return str(program)


@pytest.mark.parametrize("name", PRINTS)
def test_an_example_prints_what_it_promises(programs: Programs, name: str) -> None:
    assert programs.printed(name) == PRINTS[name]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_a_worker_in_plain_curl(programs: Programs) -> None:
    numbered = [f"{number} {name}" for number, name in enumerate(ORDER, 1)]
    assert programs.printed("curl").splitlines() == ["completed: {'delivered': True}", *numbered]


def test_a_subscriber_sees_the_events_of_every_run_in_order(programs: Programs) -> None:
    lines = programs.printed("subscriber").splitlines()
    assert len(lines) == FOLLOWED
    seen: dict[str, list[str]] = {}
    for line in lines:
        run_id, sequence, event_type = line.split()
        seen.setdefault(run_id, []).append(event_type)
        assert int(sequence) == len(seen[run_id])
    runs = [events for events in seen.values() if not events[0].startswith("Schedule")]
    assert all("WorkflowStarted" in events[:2] for events in runs if len(events) > 1)


def test_the_program_of_the_readme_runs(programs: Programs) -> None:
    """Its address is the only thing that differs here."""
    assert programs.printed("readme") == PRINTS["quickstart.py"]


def test_every_example_is_run_here_and_listed() -> None:
    programs = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh")}
    assert programs == {*PRINTS, "worker_with_curl.sh", "subscribe_events.py", "jwt_provider.py"}
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert not [name for name in programs if f"({name})" not in listed]
