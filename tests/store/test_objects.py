"""Payloads outside the database, on every kind of store: written, read, compared, removed (operations 8)."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from actors.payload_storage.location import Location, Policy, location_of, object_key
from api.payloads.storage import objects
from api.settings import StorageRules
from store.objects import ObjectDamaged, Objects, ObjectsUnavailable
from tests.support import object_stores
from tests.support.object_stores import ObjectStore

KINDS = ("local", "s3", "gcs", "azure")


@pytest.fixture(scope="module", params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    """A store of each kind."""
    directory: Path = tmp_path_factory.mktemp(request.param)
    if request.param == "azure" and object_stores.azurite() is None:
        pytest.skip("needs Azurite (npm), or DW_TEST_AZURITE=<azurite-blob>")
    with contextlib.ExitStack() as stack:
        if request.param == "local":
            yield ObjectStore("local", {}, {"uri": f"file://{directory}/a%20folder"})
        else:
            yield stack.enter_context(getattr(object_stores, request.param)(directory))


def place_in(store: ObjectStore, prefix: str) -> tuple[Location, Objects]:
    """A folder of a store."""
    config = store.policy(prefix)["config"]
    place = location_of(Policy(store.driver, True, None, config), "lab", None)
    return place, objects(place, StorageRules(None, {store.driver: store.profile}))


@pytest.mark.parametrize("prefix", ["", "lab/of day"])
async def test_bytes_come_back_as_they_were_put(store: ObjectStore, prefix: str) -> None:
    place, kept = place_in(store, prefix)
    empty = () if store.driver == "gcs" else (b"",)  # the emulator fails with it
    for data in (*empty, b"x", bytes(range(256)) * 4096):
        sha256 = hashlib.sha256(data).hexdigest()
        key = object_key("avro", sha256)
        await kept.put(key, data)
        await kept.put(key, data)  # once more is the same
        assert place.key_of(place.uri(key)) == key
        assert await kept.get(key, sha256, len(data)) == data
        for digest, size in ((hashlib.sha256(b"other").hexdigest(), len(data)), (sha256, len(data) + 1)):
            with pytest.raises(ObjectDamaged):
                await kept.get(key, digest, size)
        await kept.delete(key)
        await kept.delete(key)  # what is not there is removed
        with pytest.raises(ObjectDamaged):
            await kept.get(key, sha256, len(data))


async def test_a_bucket_that_is_not_there(store: ObjectStore) -> None:
    if store.driver == "local":
        return
    config = {**store.config, "bucket": "nowhere"}
    place = location_of(Policy(store.driver, True, None, config), "lab", None)
    kept = objects(place, StorageRules(None, {store.driver: store.profile}))
    with pytest.raises((ObjectsUnavailable, ObjectDamaged)) as told:
        await kept.put("k", b"x")
        await kept.get("k", hashlib.sha256(b"x").hexdigest(), 1)
    for secret in store.profile.values():
        assert secret not in str(told.value) or len(secret) < 4, "no credential and no address is told"


async def test_a_store_that_cannot_be_set_up() -> None:
    place = Location("gcs", "b", "", "gcs")
    with pytest.raises(ObjectsUnavailable) as told:
        objects(place, StorageRules(None, {"gcs": {"service_account_key": "planted-secret"}}))
    assert "planted" not in str(told.value)
    with pytest.raises(ObjectsUnavailable):
        objects(place, StorageRules(None, {}))
