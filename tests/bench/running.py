"""The load generator as a process."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import orjson

ROOT = Path(__file__).parents[2]


async def bench(tmp_path: Path, *arguments: str) -> tuple[int, str, dict[str, Any]]:
    """Run `python -m bench`; its exit code, output and report."""
    report = tmp_path / "report.json"
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench", "--json", str(report), "--duration", "0.6", "--warmup", "0.2", *arguments),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode is not None
    return process.returncode, output.decode(), orjson.loads(report.read_bytes()) if report.exists() else {}
