"""Whatever a test of the core records stands in the catalogue of events, type and keys."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from actors.run.events.catalogue import KEYS_OF
from actors.run.events.types import EventType
from actors.run.transition import Transition


@pytest.fixture(scope="package", autouse=True)
def catalogued() -> Iterator[None]:
    """Production does not look: what is recorded there is what these tests record."""
    record = Transition.record

    def recording(self: Transition, event_type: EventType, payload: dict[str, Any], **more: Any) -> int:
        sequence = record(self, event_type, payload, **more)
        unknown = payload.keys() - KEYS_OF[event_type]
        assert not unknown, f"{event_type} has keys that actors/run/events/catalogue.py does not know: {sorted(unknown)}"
        return sequence

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transition, "record", recording)
        yield
