"""A pytest plugin that writes down which events the core records: `-p tests.docs.recorder --recorded-events FILE`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from actors.run.events.types import EventType
from actors.run.transition import Transition

SEEN: dict[str, set[str]] = {}


def pytest_addoption(parser: pytest.Parser) -> None:
    """The file it goes to."""
    parser.addoption("--recorded-events", type=Path, required=True)


def pytest_configure(config: pytest.Config) -> None:
    """Listen to every event that is recorded from now on; keys count whose value is absent this time, too."""
    record = Transition.record

    def recording(self: Transition, event_type: EventType, payload: dict[str, Any], **more: Any) -> int:
        sequence = record(self, event_type, payload, **more)
        SEEN.setdefault(event_type, set()).update(payload)
        return sequence

    Transition.record = recording  # type: ignore[method-assign]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write what was seen."""
    path: Path = session.config.getoption("--recorded-events")
    path.write_text(json.dumps({name: sorted(keys) for name, keys in sorted(SEEN.items())}, indent=1), encoding="utf-8")
