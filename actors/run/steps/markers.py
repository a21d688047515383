"""Steps that are resolved by being recorded: side effects, version markers, search attributes (worker-protocol 5.6 to 5.8)."""

from __future__ import annotations

from actors.run.commands.steps import RecordSideEffect, RecordVersionMarker, UpsertSearchAttributes
from actors.run.events.stored import result_keys
from actors.run.transition import Transition


def side_effect(tx: Transition, command: RecordSideEffect, step: int) -> None:
    """Keep a value the workflow computed."""
    codec = tx.state.payload_codec
    tx.record("SideEffectRecorded", result_keys(command.result, codec, codec), step=step)


def version_marker(tx: Transition, command: RecordVersionMarker, step: int) -> None:
    """Keep the version the workflow chose; the range is the worker's business."""
    tx.record(
        "VersionMarkerRecorded",
        {
            "change_id": command.change_id,
            "version": command.version,
            "min_supported": command.min_supported,
            "max_supported": command.max_supported,
        },
        step=step,
    )


def search_attributes(tx: Transition, command: UpsertSearchAttributes, step: int) -> None:
    """Merge into the run's attributes; the visible row changes in the same commit."""
    state = tx.state
    state.search_attributes = merged = merge(state.search_attributes, command)
    tx.attributes_changed = True
    change = {key: command.attributes[key] for key in sorted(command.attributes)}
    tx.record("SearchAttributesUpserted", {"attributes": change, "merged": merged}, step=step)


def merge(attributes: dict[str, object], command: UpsertSearchAttributes) -> dict[str, object]:
    """The attributes after a change: None deletes."""
    merged = {**attributes, **command.attributes}
    return {key: value for key, value in merged.items() if value is not None}
