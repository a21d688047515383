"""A run's history as one verifiable document, made while its events are read (operations 9.1 to 9.4).

What is sent begins with the events, as they come, so that the first byte does not wait for the last event. The checksum is over
the canonical order of the keys, so what is sent is kept as text until the end (`rows.Spool`), and only then counted.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from actors.export import facts as run_facts
from actors.export import manifest
from actors.export.canonical import Seal, Written, event_text, written
from actors.export.facts import RunFacts, Summing
from actors.export.lineage import Children, Parents
from actors.export.messages import Commands, Signals, Updates
from actors.export.rows import One, Rows, Spool
from actors.export.section import Section
from actors.export.steps import Activities, Failures, Timers
from actors.run.times import iso

SCHEMA = "durable-workflow.v2.history-export"
SCHEMA_VERSION = 1
_ENTRIES_AT_ONCE = 100


class Part(Protocol):
    """What stands under one key of a bundle."""

    def sent(self) -> Iterator[bytes]: ...

    def counted(self) -> Iterator[bytes]: ...


class Bundle:
    """One export: `head`, then `events` as often as there are more, then `tail`. Close it after use."""

    def __init__(self, facts: RunFacts, seal: Seal) -> None:
        state = facts.state
        self._facts = facts
        self._seal = seal
        self._spool = Spool()
        self._events = Rows(self._spool)
        self._summing = Summing(facts)
        self._sections: dict[str, Section] = {
            "commands": Commands(state),
            "signals": Signals(state),
            "updates": Updates(state),
            "activities": Activities(state),
            "timers": Timers(state),
            "failures": Failures(state),
            "parents": Parents(state),
            "children": Children(state),
        }
        for section in self._sections.values():
            section.bind(self._spool)
        self._sequence = 0
        self._odd = False
        self._first: dict[str, Any] = {
            "schema": SCHEMA,
            "schema_version": SCHEMA_VERSION,
            "exported_at": iso(facts.at),
            "dedupe_key": facts.dedupe_key,
            "history_complete": run_facts.complete(state),
        }

    def close(self) -> None:
        """Nothing of it stays."""
        self._spool.close()

    def head(self) -> bytes:
        """The beginning of the document."""
        return written(self._first).sent[:-1] + b',"history_events":['

    def events(self, lines: list[bytes]) -> bytes:
        """The next events, as stored."""
        piece = bytearray()
        for line in lines:
            if self._sequence:
                piece += b","
            piece += self._take(line).sent
        return bytes(piece)

    def tail(self) -> Iterator[bytes]:
        """The rest of the document, in pieces; between two of them others may be served."""
        for section in self._sections.values():
            section.finish()
        rest = self._rest()
        yield b"]"
        for name, part in rest.items():
            yield f',"{name}":'.encode()
            yield from part.sent()
        yield from self._counted(rest)
        yield b',"integrity":' + written(self._seal.integrity()).sent + b"}"

    def _take(self, line: bytes) -> Written:
        self._sequence = sequence = self._sequence + 1
        event, text = event_text(line, lambda stored: _shaped(stored, sequence))
        if text.counted is not text.sent:
            self._odd = True
        self._events.add(sequence, text)
        event["sequence"] = sequence
        self._summing.take(event)
        for section in self._sections.values():
            section.odd = self._odd
            section.take(event)
        return text

    def _counted(self, rest: dict[str, Part]) -> Iterator[bytes]:
        """Count everything in canonical order; yields nothing to send, only the occasion to serve others."""
        count = self._seal.count
        first: dict[str, Part] = {name: One(value) for name, value in self._first.items()}
        parts = {**first, "history_events": self._events, **rest}
        for index, name in enumerate(sorted(parts)):
            count((b"{" if index == 0 else b",") + f'"{name}":'.encode())
            for piece in parts[name].counted():
                count(piece)
                yield b""
        count(b"}")

    def _rest(self) -> dict[str, Part]:
        sections, summing, odd = self._sections, self._summing, self._odd
        links = _Links(sections["parents"].rows, sections["children"].rows)
        entries = self._manifest_entries()
        avro = any(entry["codec"] == manifest.AVRO for entry in entries) or self._facts.state.payload_codec == manifest.AVRO
        return {
            "workflow": One(summing.workflow(), odd=True),
            "payloads": One(summing.payloads(), odd),
            "summary": One(summing.summary(), odd=True),
            "selected_run": One(
                {
                    "waits_projection_source": "live",
                    "timeline_projection_source": "live",
                    "timers_projection_source": "live",
                    "timers_projection_rebuild_reasons": [],
                    "lineage_projection_source": "live",
                }
            ),
            "waits": One([]),
            "timeline": One([]),
            "linked_intakes_scope": One("selected_run"),
            "linked_intakes": One([]),
            "commands": sections["commands"].rows,
            "signals": sections["signals"].rows,
            "updates": sections["updates"].rows,
            "tasks": One(run_facts.tasks(self._facts.state), odd=True),
            "activities": sections["activities"].rows,
            "timers": sections["timers"].rows,
            "failures": sections["failures"].rows,
            "links": links,
            "redaction": One({"applied": False, "policy": None, "paths": []}),
            "codec_schemas": One(manifest.codec_schemas(avro)),
            "payload_manifest": _Manifest(entries),
        }

    def _manifest_entries(self) -> list[dict[str, Any]]:
        entries = [{"path": path, **entry} for path, entry in self._summing.slots().items()]
        for name in ("commands", "signals", "updates", "activities"):
            for index, slots in enumerate(self._sections[name].rows.ordered_slots()):
                entries += [{"path": f"{name}.{index}.{member}", **entry} for member, entry in slots.items()]
        return entries


class _Manifest:
    """The payload manifest, as long as the run has payloads."""

    def __init__(self, entries: list[dict[str, Any]]) -> None:
        self._entries = entries

    def sent(self) -> Iterator[bytes]:
        """The JSON text, in pieces."""
        yield b'{"entries":['
        for begin in range(0, len(self._entries), _ENTRIES_AT_ONCE):
            piece = written(self._entries[begin : begin + _ENTRIES_AT_ONCE]).sent[1:-1]
            yield b"," + piece if begin else piece
        yield b'],"version":1}'

    counted = sent


class _Links:
    """The object of two lists."""

    def __init__(self, parents: Rows, children: Rows) -> None:
        self._lists = {"children": children, "parents": parents}

    def sent(self) -> Iterator[bytes]:
        """The JSON text."""
        return self._text(counted=False)

    def counted(self) -> Iterator[bytes]:
        """The canonical text."""
        return self._text(counted=True)

    def _text(self, *, counted: bool) -> Iterator[bytes]:
        begin = b"{"
        for name, rows in self._lists.items():
            yield begin + f'"{name}":'.encode()
            yield from rows.counted() if counted else rows.sent()
            begin = b","
        yield b',"projection_source":"live"}'


def _shaped(stored: dict[str, Any], sequence: int) -> dict[str, Any]:
    return {
        "id": stored["id"],
        "sequence": sequence,
        "type": stored["event_type"],
        "workflow_task_id": stored.get("workflow_task_id"),
        "workflow_command_id": stored.get("workflow_command_id"),
        "recorded_at": stored["recorded_at"],
        "payload": stored["payload"],
    }
