"""The external payload storage of a namespace: its policy, and whether it works (control-plane 4, operations 8.1 and 8.5)."""

from __future__ import annotations

import hashlib
from typing import Any

from actors.payload_storage.location import DRIVERS, Location, Policy, Unusable, object_key
from api.control.namespaces import not_found, resource
from api.http.input.fields import Fields
from api.http.request import Request
from api.http.response import Response
from api.http.storage_place import location
from api.payloads import storage
from store import namespaces
from store.objects import ObjectDamaged, Objects, ObjectsUnavailable

_THRESHOLD_BYTES = 2_097_152  # when a policy names none
_CONFIG = {
    "uri": 2048, "bucket": 255, "container": 255, "disk": 255, "prefix": 1024, "region": 128, "endpoint": 2048,
    "auth_profile": 255,
}  # fmt: skip
_SMALL = (128, 1_048_576)  # bytes of the test payloads: default and most
_LARGE = (2_097_152, 16_777_216)


def _read_policy(request: Request) -> dict[str, Any]:
    fields = request.fields()
    driver = fields.choice("driver", DRIVERS)
    if driver is None and "driver" not in fields.errors:
        fields.missing("driver")
    enabled = fields.boolean("enabled", default=True)
    threshold = fields.integer("threshold_bytes", low=1)
    config = _read_config(fields)
    fields.check()
    policy = {"driver": driver, "enabled": enabled, "threshold_bytes": threshold or _THRESHOLD_BYTES}
    return policy | ({"config": config} if config else {})


def _read_config(fields: Fields) -> dict[str, str]:
    config = fields.nested("config")
    if config is None:
        return {}
    read = {name: config.text(name, longest=longest) for name, longest in _CONFIG.items()}
    return {name: value for name, value in read.items() if value}


async def set_policy(request: Request) -> Response:
    """PUT /api/namespaces/{namespace}/external-storage: replaces the whole policy, usable here or not."""
    name, db = request.path["namespace"].lower(), request.services.db
    if await namespaces.get(db, name) is None:
        raise not_found(name)
    policy = await request.read(_read_policy)
    namespace = await namespaces.set_external_storage(db, name, policy, request.services.clock.now())
    if namespace is None:
        raise not_found(name)
    request.services.namespaces.forget(name)
    return Response(200, resource(namespace))


def _read_test(request: Request) -> tuple[str | None, int, int]:
    fields = request.fields()
    driver = fields.choice("driver", DRIVERS)
    small = fields.integer("small_payload_bytes", low=1, high=_SMALL[1]) or _SMALL[0]
    large = fields.integer("large_payload_bytes", low=1, high=_LARGE[1]) or _LARGE[0]
    fields.check()
    return driver, small, large


async def test(request: Request) -> Response:
    """POST /api/storage/test: writes, reads, compares and removes two payloads."""
    driver, small, large = await request.read(_read_test)
    services, name = request.services, request.namespace
    namespace = await namespaces.get(services.db, name)
    policy = None if namespace is None else Policy.of(namespace.external_payload_storage)
    if policy is None:
        return _failed(name, driver, "external_storage_not_configured", "The namespace has no external storage policy.")
    if not policy.enabled:
        return _failed(name, policy.driver, "external_storage_disabled", "The policy of the namespace is not enabled.")
    if driver is not None and driver != policy.driver:
        text = f"The policy of the namespace has the driver {policy.driver}."
        return _failed(name, driver, "storage_driver_unavailable", text, [policy.driver])
    rules = services.settings.storage
    try:
        place = location(policy, name, rules)
        store = storage.objects(place, rules)
        tried = {
            "small_payload": await _round_trip(store, place, "storage-test-small", b"s" * small),
            "large_payload": await _round_trip(store, place, "storage-test-large", b"l" * large),
        }
    except (Unusable, ObjectsUnavailable, ObjectDamaged) as error:
        return _failed(name, policy.driver, "storage_driver_unavailable", f"The storage cannot be used: {error}.", [])
    return Response(200, {"status": "passed", "namespace": name, "driver": policy.driver, **tried})


async def _round_trip(store: Objects, place: Location, codec: str, data: bytes) -> dict[str, Any]:
    sha256 = hashlib.sha256(data).hexdigest()
    key = object_key(codec, sha256)
    await store.put(key, data)
    await store.get(key, sha256, len(data))
    await store.delete(key)
    return {"status": "passed", "bytes": len(data), "sha256": sha256, "reference_uri": place.uri(key)}


def _failed(namespace: str, driver: str | None, reason: str, message: str, supported: list[str] | None = None) -> Response:
    body: dict[str, Any] = {
        "status": "failed",
        "reason": reason,
        "message": message,
        "namespace": namespace,
        "driver": driver,
    }
    return Response(422, body if supported is None else body | {"supported_diagnostic_drivers": supported})
