"""Which URIs lie in a namespace's storage, and what makes a reference unacceptable (operations 8.1 to 8.3)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.payload_storage.location import Location, Policy, Unusable, location_of, object_key
from actors.payload_storage.reference import SCHEMA, faults_of
from actors.run.times import Micros

SHA = "ab" * 32
NOW = Micros(1_777_000_000_000_000)
DISK = Location("local", "", "/srv/blobs/lab", "")
S3 = Location("s3", "payloads", "lab/inner", "s3")
GCS = Location("gcs", "payloads", "", "gcs")
AZURE = Location("azure", "payloads", "lab", "azure")
PLACES = (DISK, S3, GCS, AZURE)


@pytest.mark.parametrize("place", PLACES)
def test_what_is_written_is_read(place: Location) -> None:
    key = object_key("avro", SHA)
    assert key == f"avro/ab/{SHA}"
    assert place.key_of(place.uri(key)) == key


def test_both_schemes_of_older_and_newer_clients() -> None:
    assert GCS.key_of("gcs://payloads/k") == GCS.key_of("gs://payloads/k") == "k"
    assert AZURE.key_of("azure://payloads/lab/k") == AZURE.key_of("azure-blob://payloads/lab/k") == "k"
    assert DISK.key_of("file://localhost/srv/blobs/lab/a%20b") == "a b"


@pytest.mark.parametrize(
    ("place", "uri"),
    [
        (DISK, "file:///srv/blobs/other/k"),
        (DISK, "file:///srv/blobs/lab"),
        (DISK, "file:///srv/blobs/lab/"),
        (DISK, "file:///srv/blobs/lab/../other/k"),
        (DISK, "file:///srv/blobs/lab/%2e%2e/other/k"),
        (DISK, "file:///srv/blobs/lab/a/..%2f..%2fk"),
        (DISK, "file:///srv/blobs/lab//k"),
        (DISK, "file://elsewhere/srv/blobs/lab/k"),
        (DISK, "/srv/blobs/lab/k"),
        (DISK, "s3://payloads/srv/blobs/lab/k"),
        (DISK, "file:///srv/blobs/lab/k?x=1"),
        (DISK, "file:///srv/blobs/lab/k\x00"),
        (S3, "s3://other/lab/inner/k"),
        (S3, "s3://payloads/lab/k"),
        (S3, "s3://payloads/lab/innermost/k"),
        (S3, "s3://payloads/lab/inner/../k"),
        (S3, "s3://payloads/lab/inner/%2E%2e/k"),
        (S3, "s3://payloads/lab/inner"),
        (S3, "S4://payloads/lab/inner/k"),
        (S3, "s3://payloads@evil/lab/inner/k"),
        (S3, "s3://payloads/lab/inner/k#x"),
        (S3, "s3://payloads/lab/inner\\..\\k"),
        (GCS, "gs://payloads/"),
        (GCS, "gs://payloads"),
        (GCS, "s3://payloads/k"),
        (AZURE, "azure-blob://other/lab/k"),
        (S3, "s3://[/k"),
        (S3, ""),
    ],
)
def test_what_lies_elsewhere(place: Location, uri: str) -> None:
    assert place.key_of(uri) is None


@given(
    st.sampled_from(PLACES), st.lists(st.sampled_from(["..", ".", "", "%2e%2e", "%2E.", "a", "b%2f..", "..%2f"]), max_size=6)
)
def test_no_way_leads_out(place: Location, parts: list[str]) -> None:
    """Whatever is appended to the folder: what is taken stays below it, also once it is decoded."""
    base = place.uri("x")[:-1]
    key = place.key_of(base + "/".join(parts))
    if key is not None:
        assert ".." not in key.split("/") and "" not in key.split("/") and not key.startswith("/")


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ({"driver": "local", "config": {}}, "config.uri is needed"),
        ({"driver": "local", "config": {"uri": "https://host/x"}}, "no file:// path"),
        ({"driver": "local", "config": {"uri": "file:///srv/../etc"}}, "no file:// path"),
        ({"driver": "local", "config": {"uri": "file:///"}}, "no file:// path"),
        ({"driver": "local", "config": {"uri": "file://host/srv"}}, "no file:// path"),
        ({"driver": "s3", "config": {"bucket": "b"}}, "config.disk"),
        ({"driver": "s3", "config": {"disk": "d"}}, "config.bucket"),
        ({"driver": "s3", "config": {"disk": "d", "bucket": "a/b"}}, "no name of a bucket"),
        ({"driver": "s3", "config": {"disk": "d", "bucket": "b", "prefix": "a/../b"}}, "unsafe part"),
        ({"driver": "tape", "config": {}}, "no such driver"),
        ({"driver": "local", "enabled": False, "config": {"uri": "file:///srv"}}, "not enabled"),
    ],
)
def test_policies_that_cannot_be_used(policy: dict[str, Any], why: str) -> None:
    read = Policy.of(policy)
    assert read is not None
    with pytest.raises(Unusable, match=why):
        location_of(read, "lab", None)


def test_places_of_policies() -> None:
    def place(driver: str, root: str | None = None, **config: str) -> Location:
        return location_of(Policy(driver, True, None, config), "lab", root)

    assert place("local", uri="file:///srv/a%20b/").prefix == "/srv/a b"
    assert place("local", root="/data/").prefix == "/data/lab"
    assert place("s3", disk="d", bucket="b", prefix="/billing/2/").prefix == "billing/2"
    assert place("azure", disk="d", container="c").bucket == "c"
    assert Policy.of(None) is None


def reference(**changes: Any) -> dict[str, Any]:
    basis = {"schema": SCHEMA, "uri": S3.uri(object_key("avro", SHA)), "sha256": SHA, "size_bytes": 7, "codec": "avro"}
    return {name: value for name, value in {**basis, **changes}.items() if value is not ...}


def test_a_good_reference() -> None:
    assert faults_of(reference(), "avro", S3, NOW) == {}
    assert faults_of(reference(expires_at="2099-01-01T00:00:00+02:00", later="x"), "avro", S3, NOW) == {}


@pytest.mark.parametrize(
    ("changes", "member"),
    [
        ({"schema": "other"}, "schema"),
        ({"schema": ...}, "schema"),
        ({"sha256": "ab"}, "sha256"),
        ({"sha256": "g" * 64}, "sha256"),
        ({"sha256": None}, "sha256"),
        ({"size_bytes": -1}, "size_bytes"),
        ({"size_bytes": True}, "size_bytes"),
        ({"size_bytes": 1.0}, "size_bytes"),
        ({"size_bytes": ...}, "size_bytes"),
        ({"codec": "json"}, "codec"),
        ({"codec": ...}, "codec"),
        ({"uri": ""}, "uri"),
        ({"uri": 7}, "uri"),
        ({"uri": "s3://other/k"}, "uri"),
        ({"uri": "s3://payloads/lab/inner/" + "k" * 5000}, "uri"),
        ({"expires_at": "tomorrow"}, "expires_at"),
        ({"expires_at": "2026-13-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"expires_at": 7}, "expires_at"),
    ],
)
def test_references_that_are_refused(changes: dict[str, Any], member: str) -> None:
    assert list(faults_of(reference(**changes), "avro", S3, NOW)) == [member]


def test_without_storage_no_reference_is_taken() -> None:
    assert "external storage driver" in faults_of(reference(), "avro", None, NOW)[""]
    assert list(faults_of("text", "avro", S3, NOW)) == [""]


def test_a_folder_with_a_space_as_the_sdk_writes_it() -> None:
    place = location_of(Policy("local", True, None, {"uri": "file:///srv/of%20day"}), "lab", None)
    assert place.key_of("file://" + quote("/srv/of day/avro/ab/x")) == "avro/ab/x"
