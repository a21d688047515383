"""Payloads: the Avro wrapper byte for byte, ready blobs, plain JSON."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from durable_workflow import serializer
from hypothesis import given
from hypothesis import strategies as st

from actors.run.commands.steps import RecordSideEffect
from actors.run.payloads import in_codec
from actors.run.values import Payload
from api.http.input.fields import Fields
from api.payloads.avro_frames import Undecodable
from api.payloads.codec import decoded, encode, is_avro_blob
from api.payloads.inputs import normalise_arguments, normalise_input, normalise_message, normalise_side_effect, normalise_value

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("value", "blob"),
    [
        (None, "AAhudWxsAg=="),
        ([], "AARbXQI="),
        ("sent", "AAwic2VudCIC"),
        ({"ok": 1}, "ABB7Im9rIjoxfQI="),
        (["order-7", {"rush": True}], "ADJbIm9yZGVyLTciLHsicnVzaCI6dHJ1ZX1dAg=="),
        (["world"], "ABJbIndvcmxkIl0C"),
    ],
)
def test_contract_examples(value: Any, blob: str) -> None:
    assert encode(value) == blob
    assert json.loads(decoded(blob, "avro")) == value


@given(JSON_VALUES)
def test_round_trip_and_the_published_client_agree(value: Any) -> None:
    blob = encode(value)
    assert json.loads(decoded(blob, "avro")) == value
    assert serializer.decode(blob, codec="avro") == value
    assert is_avro_blob(blob)
    assert json.loads(decoded(serializer.encode(value, codec="avro"), "avro")) == value


@pytest.mark.parametrize("blob", ["", "AA", "====", "AQ==", "AAhudWxs", "AP////8PYQI=", "wwE=", "AARbXQI", "AAR7eAI=", "é"])
def test_undecodable(blob: str) -> None:
    with pytest.raises(Undecodable):
        json.loads(decoded(blob, "avro"))
    assert not is_avro_blob(blob)


VALUE_FRAMES = ["wwHioz3/VYAiNw4CJGluY2x1ZGVfbGluZV9pdGVtcwIBAA==", "wwHioz3/VYAiNwwECg5vcmRlci03DgIIcnVzaAIBAAA="]


@pytest.mark.parametrize("blob", VALUE_FRAMES)
def test_value_frames_are_ready_blobs(blob: str) -> None:
    assert is_avro_blob(blob)
    data = base64.b64decode(blob)
    for broken in (data[:-1], data + b"\0", data[:10] + b"\x10"):
        assert not is_avro_blob(base64.b64encode(broken).decode())


def fields(value: Any, name: str = "x") -> Fields:
    return Fields({name: value})


BLOB = encode({"ok": 1})


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        (None, None),
        ({"codec": "avro", "blob": "anything"}, Payload("avro", "anything")),
        ({"codec": "json", "blob": "{}"}, Payload("json", "{}")),
        ({"codec": "avro", "blob": "b", "more": 1}, Payload("avro", encode({"codec": "avro", "blob": "b", "more": 1}))),
        (BLOB, Payload("avro", BLOB)),
        ("confirmation-sent", Payload("avro", encode("confirmation-sent"))),
        (False, Payload("avro", encode(False))),
        (0, Payload("avro", encode(0))),
        ([], Payload("avro", encode([]))),
        (10**30, Payload("avro", encode(10**30))),
    ],
)
def test_results(sent: Any, stored: Payload | None) -> None:
    reader = fields(sent)
    assert in_avro(normalise_value(reader, "x")) == stored
    assert not reader.errors


def in_avro(payload: Payload | None) -> Payload | None:
    """The payload as a run with codec `avro` stores it."""
    return None if payload is None else in_codec(RecordSideEffect(payload), "avro").result


def in_json(payload: Payload | None) -> Payload | None:
    """The same of a run with codec `json`."""
    return None if payload is None else in_codec(RecordSideEffect(payload), "json").result


def test_results_in_json_runs() -> None:
    assert in_json(normalise_value(fields(BLOB), "x")) == Payload("json", f'"{BLOB}"')
    assert in_json(normalise_value(fields({"ä": 1}), "x")) == Payload("json", '{"ä":1}')
    assert in_json(normalise_value(fields({"codec": "avro", "blob": BLOB}), "x")) == Payload("avro", BLOB)
    assert in_json(normalise_arguments(fields("text"), "x")) == Payload("json", '["text"]')


@pytest.mark.parametrize("text", ['{"a": 1}', "7", '"quoted"', "null"])
def test_side_effects_that_are_json_text_are_ready_blobs_of_json_runs_only(text: str) -> None:
    assert in_json(normalise_side_effect(fields(text), "x")) == Payload("json", text)
    assert in_avro(normalise_side_effect(fields(text), "x")) == Payload("avro", encode(text))
    assert in_json(normalise_value(fields(text), "x")) == Payload("json", json.dumps(text))


@pytest.mark.parametrize(
    ("sent", "value"),
    [(["a", 1], ["a", 1]), ({"a": 1}, [{"a": 1}]), ("text", ["text"]), (7, [7]), ([], [])],
)
def test_plain_arguments_become_a_list(sent: Any, value: Any) -> None:
    payload = in_avro(normalise_arguments(fields(sent), "x"))
    assert payload is not None
    assert payload.blob is not None
    assert json.loads(decoded(payload.blob, "avro")) == value


@pytest.mark.parametrize(
    ("sent", "value"),
    [(None, []), ([], []), ({}, []), (["order-42"], ["order-42"]), ({"a": 1, "b": 2}, [1, 2])],
)
def test_start_inputs(sent: Any, value: Any) -> None:
    payload = normalise_input(Fields({"input": sent}))
    assert payload.blob is not None
    assert json.loads(decoded(payload.blob, "avro")) == value


REFERENCE = {"codec": "avro", "external_storage": {"schema": "x", "uri": "file:///a", "codec": "avro"}}


@pytest.mark.parametrize(
    ("sent", "key"),
    [
        (5, "input"),
        ("text", "input"),
        ({"codec": "json", "blob": "[]"}, "input.codec"),
        ({"codec": "AVRO", "blob": "x"}, "input.codec"),
        ({"codec": None, "blob": "x"}, "input.codec"),
        ({"codec": "avro", "blob": [1]}, "input.blob"),
        (REFERENCE, "input.external_storage"),
        ({**REFERENCE, "codec": "avro", "external_storage": {"codec": "json"}}, "input.external_storage.codec"),
    ],
)
def test_bad_start_inputs(sent: Any, key: str) -> None:
    reader = Fields({"input": sent})
    normalise_input(reader)
    assert list(reader.errors) == [key]


def message(value: Any) -> tuple[Payload | None, dict[str, list[str]]]:
    fields = Fields({"input": value})
    return normalise_message(fields), fields.errors


# A Value frame of newer clients: an empty list, an empty map, a null, a truncated list.
FRAME = bytes.fromhex("c301e2a33dff55802237")


def framed(*data: int) -> str:
    return base64.b64encode(FRAME + bytes(data)).decode()


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (None, None),
        ([], None),
        ({}, None),
        ([1, "x"], Payload("avro", encode([1, "x"]))),
        ({"to": "depot"}, Payload("avro", encode({"to": "depot"}))),
        ({"codec": "avro", "blob": encode([1])}, Payload("avro", encode([1]))),
        ({"codec": "avro", "blob": encode([])}, Payload("avro", encode([]))),
        ({"codec": "avro", "blob": encode({"a": 1, "b": [2]})}, Payload("avro", encode([1, [2]]))),
        ({"codec": "avro", "blob": framed(12, 0)}, Payload("avro", framed(12, 0))),
        ({"codec": "avro", "blob": framed(14, 0)}, Payload("avro", framed(14, 0))),
    ],
)
def test_signal_and_update_input(value: Any, stored: Payload | None) -> None:
    assert message(value) == (stored, {})


@pytest.mark.parametrize(
    ("value", "key"),
    [
        ("text", "input"),
        (5, "input"),
        (False, "input"),
        ({"codec": "json", "blob": "[]"}, "input.codec"),
        ({"codec": "AVRO", "blob": encode([])}, "input.codec"),
        ({"codec": "avro", "blob": 5}, "input.blob"),
        ({"codec": "avro", "blob": "oops"}, "input.blob"),
        ({"codec": "avro", "blob": encode("text")}, "input.blob"),
        ({"codec": "avro", "blob": encode(None)}, "input.blob"),
        ({"codec": "avro", "blob": framed(0)}, "input.blob"),
        ({"codec": "avro", "blob": framed(12)}, "input.blob"),
        ({"codec": "avro", "external_storage": {"codec": "avro"}}, "input.external_storage"),
        ({"codec": "avro", "external_storage": {"codec": "json"}}, "input.external_storage.codec"),
    ],
)
def test_signal_and_update_input_faults(value: Any, key: str) -> None:
    assert list(message(value)[1]) == [key]
