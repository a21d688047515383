"""What the lists of a bundle share: rows made from events, and what the payload manifest must know of them."""

from __future__ import annotations

from typing import Any

from actors.export.canonical import written
from actors.export.manifest import Entry, entry_of
from actors.export.rows import Rows, Spool
from actors.run.state import RunState


def payload_in(payload: dict[str, Any], key: str, codec: str) -> tuple[str, Any]:
    """Codec and content of a payload in an event: the blob, a reference envelope, or None. `codec`: the run's."""
    value = payload.get(key)
    of_event = payload.get("payload_codec") or codec
    if not isinstance(value, dict):
        return of_event, value
    of_value = value.get("codec") or of_event
    return of_value, value if "external_storage" in value else value.get("blob")


class Section:
    """One list of a bundle in the making. `bind` comes before the first event."""

    rows: Rows

    def __init__(self, state: RunState) -> None:
        self.state = state
        self.codec = state.payload_codec
        self.odd = False  # some value holds a number that is kept as text

    def bind(self, spool: Spool) -> None:
        """Where the rows go."""
        self.rows = Rows(spool)

    def take(self, event: dict[str, Any]) -> None:
        """An event, in order. It has its `sequence`."""

    def finish(self) -> None:
        """There are no more events."""

    def add(self, key: int, row: dict[str, Any], **payloads: tuple[str, Any]) -> None:
        """A finished row. `payloads`: codec and content of its members that hold one, in the order of the manifest."""
        slots: dict[str, Entry] = {member: entry_of(codec, data) for member, (codec, data) in payloads.items()}
        self.rows.add(key, written(row, self.odd), slots or None)
