"""What a bundle says of its payloads: codec, framing, schema (operations 9.3)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from functools import cache
from typing import Any

WRAPPER_SCHEMA = (
    '{"type":"record","name":"Payload","namespace":"durable_workflow",'
    '"fields":[{"name":"json","type":"string"},{"name":"version","type":"int","default":1}]}'
)
AVRO = "avro"
_VALUE_FRAME = bytes.fromhex("c301")  # Avro's own form for a single object, as newer clients send it
_HEADER_BYTES = 5  # of a typed payload: prefix and length of the schema
_LOOKED_AT = 64  # characters of a blob that tell its framing

Entry = dict[str, Any]


def fingerprint(schema: str) -> str:
    """How a manifest names a schema."""
    return "sha256:" + hashlib.sha256(schema.encode()).hexdigest()


def codec_schemas(avro: bool) -> dict[str, Any]:
    """`codec_schemas` of a bundle; `avro`: some of its payloads have that codec."""
    if not avro:
        return {}
    return {
        "avro": {
            "encoding": "base64-avro-binary",
            "wrapper_schema": WRAPPER_SCHEMA,
            "wrapper_prefix_hex": "00",
            "typed_prefix_hex": "01",
            "generic_wrapper": {
                "prefix_hex": "00",
                "writer_schema": WRAPPER_SCHEMA,
                "writer_schema_fingerprint": fingerprint(WRAPPER_SCHEMA),
            },
            "typed_schema": {
                "prefix_hex": "01",
                "schema_header": "uint32_be_length_prefixed_utf8_json",
                "writer_schema_location": "payload_manifest.entries[*].writer_schema",
            },
        }
    }


@cache
def _entry(
    codec: str,
    available: bool,
    diagnostic: str | None,
    framing: str | None,
    prefix: str | None,
    schema: str | None,
    encoding: str | None,
) -> Entry:
    """Entries are few and shared; whoever shows one adds its path to a copy."""
    return {
        "codec": codec,
        "available": available,
        "redacted": False,
        "encoding": encoding or ("base64-avro-binary" if codec == AVRO else "opaque-string"),
        "avro_framing": framing,
        "avro_prefix_hex": prefix,
        "writer_schema": schema,
        "writer_schema_fingerprint": None if schema is None else fingerprint(schema),
        "diagnostic": diagnostic,
    }


def entry_of(codec: str, data: Any) -> Entry:
    """What the manifest says of a payload, without its path. `data`: blob, reference envelope or None."""
    if data is None:
        return _entry(codec, False, "payload_unavailable", None, None, None, None)
    if isinstance(data, dict):
        if not isinstance(data.get("external_storage"), dict):
            return _entry(codec, True, "payload_missing", None, None, None, None)
        framing = "external_storage_reference" if codec == AVRO else None
        return _entry(codec, True, "external_storage_reference", framing, None, None, "external-storage-reference")
    if not isinstance(data, str):
        return _entry(codec, True, "payload_missing", None, None, None, None)
    if codec != AVRO:
        return _entry(codec, True, None, None, None, None, None)
    return _avro(data)


def _avro(blob: str) -> Entry:
    if not blob:
        return _entry(AVRO, True, "empty_payload", None, None, None, None)
    try:
        begin = base64.b64decode(blob[:_LOOKED_AT], validate=True)
    except (binascii.Error, ValueError):
        labelled = "json_bytes_labeled_avro" if blob.lstrip()[:1] in '{["' else "invalid_base64"
        return _entry(AVRO, True, labelled, None, None, None, None)
    if begin[:1] == b"\x00":
        return _entry(AVRO, True, None, "generic_wrapper", "00", WRAPPER_SCHEMA, None)
    if begin[:2] == _VALUE_FRAME:
        return _entry(AVRO, True, None, "single_object", "c301", None, None)
    if begin[:1] == b"\x01":
        schema, trouble = _typed_schema(blob)
        return _entry(AVRO, True, trouble, "typed_schema", "01", schema, None)
    return _entry(AVRO, True, "json_bytes_labeled_avro" if begin[:1] in b'{["' else "unknown_prefix", None, None, None, None)


def _typed_schema(blob: str) -> tuple[str | None, str | None]:
    """The schema that a typed payload carries, or why there is none."""
    try:
        data = base64.b64decode(blob, validate=True)
    except (binascii.Error, ValueError):
        return None, "typed_schema_missing_writer_schema"
    size = int.from_bytes(data[1:_HEADER_BYTES], "big")
    if len(data) < _HEADER_BYTES + size or not size:
        return None, "typed_schema_missing_writer_schema"
    try:
        schema = data[_HEADER_BYTES : _HEADER_BYTES + size].decode()
        json.loads(schema)
    except ValueError:
        return None, "typed_schema_invalid_writer_schema"
    return schema, None
