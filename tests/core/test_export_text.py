"""The canonical text of bundles: byte for byte what the SDK's verifier makes of what it has parsed (operations 9.4)."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any

import orjson
import pytest
from durable_workflow.history_bundle_verify import _canonicalize
from hypothesis import given
from hypothesis import strategies as st

from actors.export.canonical import Seal, event_text, read, written
from actors.export.manifest import WRAPPER_SCHEMA, entry_of
from actors.export.rows import Rows, Spool
from api.http.input.json_text import MAX_DEPTH

# Text without lone surrogates, as it comes past the edge.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
NUMBERS = st.one_of(st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.integers(-(10**400), 10**400))
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBERS, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(TEXT, inner, max_size=4)),
    max_leaves=20,
)


def sealed(text: bytes) -> bytes:
    """What a verifier counts of a document that it reads as JSON."""
    return _canonicalize({"v": json.loads(text)})[len('{"v":') : -1].encode()


@given(VALUES)
def test_what_is_counted_is_what_the_verifier_counts(value: Any) -> None:
    _, text = event_text(json.dumps(value, ensure_ascii=False).encode(), lambda read: read)
    assert json.loads(text.sent) == value
    assert sealed(text.sent) == text.counted


@pytest.mark.parametrize(
    "number",
    [
        "1e400",
        "-1e400",
        "1E+400",
        "1e308",
        "9" * 400,
        "-" + "9" * 400,
        "0.1e-400",
        "1.0",
        "-0",
        "-0.0",
        "1e5",
        "12e-3",
        "1e0999",
    ],
)
def test_numbers_no_double_can_hold(number: str) -> None:
    line = f'{{"b":[{number}],"a":"e999 {number}"}}'.encode()
    _, text = event_text(line, lambda value: value)
    assert sealed(text.sent) == text.counted
    if "e4" in number.lower() or "0999" in number:
        assert number.encode() in text.sent, "sent as it was recorded"
    assert b"Infinity" not in text.sent


def test_an_integer_that_python_does_not_read_is_handed_on() -> None:
    digits = "7" * 6000
    value, odd = read(f'{{"n":{digits}}}'.encode())
    text = written(value, odd)
    assert odd and text.sent == text.counted == f'{{"n":{digits}}}'.encode()


@pytest.mark.parametrize("number", ["1", "1e999"])
@pytest.mark.parametrize(("begin", "end"), [("[", "]"), ('{"a":', "}")])
def test_the_deepest_values_there_can_be(number: str, begin: str, end: str) -> None:
    line = (begin * MAX_DEPTH + number + end * MAX_DEPTH).encode()
    _, text = event_text(line, lambda value: {"payload": value})
    assert text.sent == b'{"payload":' + line + b"}"
    assert text.counted == text.sent.replace(b"1e999", b"Infinity")
    assert written(read(line)[0], odd=True).sent == line


@given(st.binary(max_size=300), st.text(max_size=9))
def test_signatures(data: bytes, key: str) -> None:
    seal = Seal(key, "k1")
    for at in range(0, len(data), 7):
        seal.count(data[at : at + 7])
    found = seal.integrity()
    assert found["checksum"] == hashlib.sha256(data).hexdigest()
    if key:
        assert found["signature"] == hmac.new(key.encode("utf-8", "surrogatepass"), data, hashlib.sha256).hexdigest()
        assert (found["signature_algorithm"], found["key_id"]) == ("hmac-sha256", "k1")
    else:
        assert (found["signature_algorithm"], found["signature"], found["key_id"]) == (None, None, None)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 99999)), max_size=30))
def test_rows_come_in_the_order_of_their_keys(rows: list[tuple[int, int]]) -> None:
    spool = Spool()
    try:
        listed = Rows(spool)
        for key, value in rows:
            listed.add(key, written(value), {"slot": value})
        expected = [value for _, value in sorted(rows, key=lambda row: row[0])]
        assert orjson.loads(b"".join(listed.sent())) == orjson.loads(b"".join(listed.counted())) == expected
        assert [slots["slot"] for slots in listed.ordered_slots()] == expected
    finally:
        spool.close()


REFERENCE = {"codec": "avro", "external_storage": {"uri": "s3://b/k", "sha256": "0" * 64}}


@pytest.mark.parametrize(
    ("codec", "data", "diagnostic", "framing"),
    [
        ("avro", None, "payload_unavailable", None),
        ("avro", REFERENCE, "external_storage_reference", "external_storage_reference"),
        ("json", {**REFERENCE, "codec": "json"}, "external_storage_reference", None),
        ("avro", {"codec": "avro"}, "payload_missing", None),
        ("avro", 7, "payload_missing", None),
        ("avro", "AAJ7AA==", None, "generic_wrapper"),
        ("avro", "", "empty_payload", None),
        ("avro", '{"a": 1}', "json_bytes_labeled_avro", None),
        ("avro", "eyJhIjoxfQ==", "json_bytes_labeled_avro", None),
        ("avro", "no base64!", "invalid_base64", None),
        ("avro", "ZZZZ", "unknown_prefix", None),
        ("avro", "AQ==", "typed_schema_missing_writer_schema", "typed_schema"),
        ("avro", "AQAAAAJ7fQ==", None, "typed_schema"),
        ("avro", "AQAAAAF7fQ==", "typed_schema_invalid_writer_schema", "typed_schema"),
        ("avro", "wwHioz3/VYAiNwA=", None, "single_object"),
        ("json", '{"a": 1}', None, None),
    ],
)
def test_what_the_manifest_says(codec: str, data: Any, diagnostic: str | None, framing: str | None) -> None:
    entry = entry_of(codec, data)
    assert (entry["diagnostic"], entry["avro_framing"], entry["available"]) == (diagnostic, framing, data is not None)
    if framing == "generic_wrapper":
        assert entry["writer_schema"] == WRAPPER_SCHEMA
        digest = hashlib.sha256(WRAPPER_SCHEMA.encode()).hexdigest()
        assert entry["writer_schema_fingerprint"] == f"sha256:{digest}"
    if data == "AQAAAAJ7fQ==":
        assert entry["writer_schema"] == "{}"
