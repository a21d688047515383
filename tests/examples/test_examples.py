"""Every program under examples/ runs against a real server as a reader would run it, and prints what it promises."""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.support.server import ServerProcess
from tests.support.services import clean_environment

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SECONDS = 120.0

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
}


async def run(server: ServerProcess, *command: str) -> str:
    """Run a program beside the server; what it printed."""
    environment = {"DW_URL": server.url, "DW_TOKEN": server.token, "PYTHONWARNINGS": "error::RuntimeWarning"}
    place = server.place.environment()
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=clean_environment({**environment, **{name: place[name] for name in ("DW_NATS_URL", "DW_NATS_PREFIX")}}),
    )
    try:
        out, errors = await asyncio.wait_for(process.communicate(), SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode == 0, errors.decode()
    return out.decode().strip()


@pytest.mark.parametrize("name", PRINTS)
async def test_an_example_prints_what_it_promises(server: ServerProcess, name: str) -> None:
    assert await run(server, sys.executable, str(EXAMPLES / name)) == PRINTS[name]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
async def test_a_worker_in_plain_curl(server: ServerProcess) -> None:
    printed = await run(server, "bash", str(EXAMPLES / "worker_with_curl.sh"))
    numbered = [f"{number} {name}" for number, name in enumerate(ORDER, 1)]
    assert printed.splitlines() == ["completed: {'delivered': True}", *numbered]


async def test_a_subscriber_sees_every_event_of_a_run_in_order(server: ServerProcess) -> None:
    await run(server, sys.executable, str(EXAMPLES / "quickstart.py"))
    lines = (await run(server, sys.executable, str(EXAMPLES / "subscribe_events.py"), str(len(ORDER)))).splitlines()
    seen: dict[str, list[str]] = {}
    for line in lines:
        run_id, sequence, event_type = line.split()
        seen.setdefault(run_id, []).append(event_type)
        assert int(sequence) == len(seen[run_id])
    assert all(events[:2] == ORDER[:2] for events in seen.values() if len(events) > 1)
    assert sum(map(len, seen.values())) == len(ORDER)


async def test_the_program_of_the_readme_runs(server: ServerProcess, tmp_path: Path) -> None:
    """The first screen shows the Quickstart; its address is the only thing that differs here."""
    (program,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert '"http://localhost:8080"' in program
    file = tmp_path / "readme.py"
    file.write_text(program.replace("http://localhost:8080", server.url), encoding="utf-8")
    assert await run(server, sys.executable, str(file)) == PRINTS["quickstart.py"]


def test_every_example_is_run_here_and_listed() -> None:
    programs = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".sh")}
    assert programs == {*PRINTS, "worker_with_curl.sh", "subscribe_events.py"}
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    assert not [name for name in programs if f"({name})" not in listed]
