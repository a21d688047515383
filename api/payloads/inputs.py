"""The payloads of a request: envelopes and references checked, plain JSON made into envelopes.

Blobs a client sends are kept unchanged. Contract: control-plane 5.2, worker-protocol 9.2, 9.4.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw

from actors.payload_storage.reference import faults_of
from actors.run.times import Micros
from actors.run.values import Payload
from api.http.input import json_text
from api.http.input.fields import Fields, label
from api.payloads.avro_frames import Undecodable, wrapped
from api.payloads.codec import AVRO, JSON, decoded, encode, is_avro_blob, is_value_collection

NEVER_EXPIRES = Micros(0)  # a present at which no reference has expired
_ENVELOPE_KEYS = frozenset({"codec", "blob"})
_EXTERNAL_KEYS = frozenset({"codec", "external_storage"})


class _Shape(msgspec.Struct, forbid_unknown_fields=True):
    codec: Raw
    blob: Raw = Raw(b"")
    external_storage: Raw = Raw(b"")


_shape = msgspec.json.Decoder(_Shape).decode


def envelope_in(fields: Fields, name: str) -> dict[str, Any] | None:
    """A field's value if it has the shape of an envelope or an external reference, exactly its two keys; else None."""
    value = fields.data.get(name)
    if type(value) is Raw:
        value = json_text.opened(value)
    if isinstance(value, dict):
        found = len(value) == 2 and (value.keys() == _ENVELOPE_KEYS or value.keys() == _EXTERNAL_KEYS)
        return value if found else None
    if type(value) is not Raw:
        return None
    try:
        shape = _shape(bytes(value))
    except msgspec.ValidationError:
        return None
    blob, reference = bytes(shape.blob), bytes(shape.external_storage)
    if bool(blob) == bool(reference):
        return None
    key, inner = ("blob", shape.blob) if blob else ("external_storage", shape.external_storage)
    return {"codec": json_text.opened(shape.codec), key: json_text.opened(inner)}


def check_envelope(fields: Fields, name: str, value: dict[str, Any], codecs: tuple[str, ...]) -> Payload | None:
    """The payload of an envelope-shaped value (see `envelope_in`); None after noting its fault."""
    codec = value["codec"]
    if not isinstance(codec, str) or codec not in codecs:
        fields.fault(f"{name}.codec", f"The {label(name)}.codec field must be {' or '.join(codecs)}.")
        return None
    if "external_storage" in value:
        return check_reference(fields, f"{name}.external_storage", value["external_storage"], codec)
    if not isinstance(value["blob"], str):
        fields.fault(f"{name}.blob", f"The {label(name)}.blob field must be a string.")
        return None
    return Payload(codec, value["blob"])


def check_reference(fields: Fields, name: str, sent: Any, codec: str) -> Payload | None:
    """The payload of a reference to one outside, handed on as it is (worker-protocol 9.4); None after noting its faults."""
    reference = json_text.plain(sent)
    judge = fields.reference_faults
    faults = faults_of(reference, codec, None, NEVER_EXPIRES) if judge is None else judge(reference, codec)
    for member, text in faults.items():
        fields.fault(f"{name}.{member}" if member else name, text)
    return None if faults else Payload(codec, external_storage=reference)


def normalise_input(fields: Fields, name: str = "input") -> Payload:
    """The argument list of a start (control-plane 5.2): an envelope as is, plain JSON encoded as a list of arguments."""
    value = fields.get(name)
    if value is None or value in ({}, []):
        return EMPTY_LIST
    kind = json_text.kind(value)
    if kind is dict:
        envelope = envelope_in(fields, name)
        if envelope is not None:
            return check_envelope(fields, name, envelope, (AVRO,)) or EMPTY_LIST
        return Payload(AVRO, wrapped(json_text.values(_text(fields, name)).decode()))
    if kind is list:
        return Payload(AVRO, wrapped(_text(fields, name).decode()))
    fields.fault(name, f"The {label(name)} field must be a list or an object.")
    return EMPTY_LIST


def _text(fields: Fields, name: str) -> bytes:
    """The compact text of a field that is there."""
    return fields.opaque(name) or b"null"


def normalise_message(fields: Fields, name: str = "input") -> Payload | None:
    """The arguments of a signal or an update (control-plane 5.2): None for none, a map of other keys stays a map.

    A blob must hold a list or a map; the values of a map are the positional arguments.
    """
    value = fields.get(name)
    if value is None or value in ({}, []):
        return None
    envelope = envelope_in(fields, name)
    if envelope is not None:
        payload = check_envelope(fields, name, envelope, (AVRO,))
        return payload if payload is None or payload.blob is None else _positional(fields, name, payload.blob)
    if json_text.kind(value) in (dict, list):
        return Payload(AVRO, wrapped(_text(fields, name).decode()))
    fields.fault(name, f"The {label(name)} field must be a list or an object.")
    return None


def _positional(fields: Fields, name: str, blob: str) -> Payload | None:
    if is_value_collection(blob):
        return Payload(AVRO, blob)
    try:
        text = decoded(blob, AVRO).lstrip(b" \t\r\n")
    except Undecodable:
        text = b""
    if text[:1] == b"[":
        return Payload(AVRO, blob)
    if text[:1] == b"{":
        return Payload(AVRO, wrapped(json_text.values(json_text.compact(text)).decode()))
    fields.fault(f"{name}.blob", f"The {label(name)}.blob field must hold a list or a map.")
    return None


def normalise_value(fields: Fields, name: str) -> Payload | None:
    """A result (worker-protocol 9.2): None when null or absent; plain JSON is stored in the codec the run will say."""
    envelope = envelope_in(fields, name)
    if envelope is not None:
        return check_envelope(fields, name, envelope, (AVRO, JSON))
    value = fields.get(name)
    return None if value is None else _plain(value, _text(fields, name))


def normalise_side_effect(fields: Fields, name: str) -> Payload | None:
    """The same for a side effect, whose text may be a ready blob of a run with codec `json`, too."""
    value = fields.get(name)
    payload = normalise_value(fields, name)
    if payload is not None and isinstance(value, str) and _is_json(value):
        return Payload(AVRO, payload.blob, plain=value)
    return payload


def normalise_arguments(fields: Fields, name: str) -> Payload | None:
    """Arguments of a command (worker-protocol 9.2): as `normalise_value`, plain JSON that is no list becomes a list of one."""
    envelope = envelope_in(fields, name)
    if envelope is not None:
        return check_envelope(fields, name, envelope, (AVRO, JSON))
    value = fields.get(name)
    if value is None:
        return None
    text = _text(fields, name)
    return _plain(value, text if json_text.kind(value) is list else b"[%b]" % text)


def _plain(value: Any, encoded: bytes) -> Payload:
    """Plain JSON in both codecs. `encoded`: the text of what is encoded when the value is no ready blob in the codec."""
    text = encoded.decode()
    ready = isinstance(value, str) and is_avro_blob(value)
    return Payload(AVRO, value if ready else wrapped(text), plain=text)


def _is_json(text: str) -> bool:
    try:
        json_text.check(text.encode())
    except json_text.Malformed:
        return False
    return True


EMPTY_LIST = Payload(AVRO, encode([]))
