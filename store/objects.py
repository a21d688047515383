"""Payloads outside the database: bytes put, got and removed by key in an object store or a folder (operations 8).

The stores are spoken to by obstore. Credentials come from the server's configuration alone.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

import obstore
from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

_SECONDS = 30.0  # for one object
_Found = TypeVar("_Found")


class ObjectsUnavailable(Exception):
    """The store cannot be used or reached. The text names neither credentials nor addresses."""


class ObjectDamaged(Exception):
    """The bytes found are not those that were put."""


class Objects:
    """One folder of one store."""

    def __init__(self, driver: str, bucket: str, prefix: str, options: Mapping[str, str]) -> None:
        """`driver`: `local` (then `prefix` is the folder), `s3`, `gcs`, `azure`; `options`: credentials, region, endpoint.

        Raises `ObjectsUnavailable` when these do not go together.
        """
        try:
            self._store = _made(driver, bucket, prefix, options)
        except Exception as error:  # obstore raises errors of many kinds, whose texts may quote what they were given
            raise ObjectsUnavailable(f"the {driver} store cannot be set up ({type(error).__name__})") from None

    async def put(self, key: str, data: bytes) -> None:
        """Store bytes; what was there under the key is replaced."""
        await _told(obstore.put_async(self._store, key, data))

    async def get(self, key: str, sha256: str, size: int) -> bytes:
        """The bytes under a key. Raises `ObjectDamaged` for others than those with this digest and size, or none."""
        found = await _told(self._read(key, size))
        if found is None or len(found) != size or hashlib.sha256(found).hexdigest() != sha256.lower():
            raise ObjectDamaged("the object is not what its reference says")
        return found

    async def delete(self, key: str) -> None:
        """Remove the object; one that is not there counts as removed."""
        await _told(self._delete(key))

    async def _read(self, key: str, size: int) -> bytes | None:
        try:
            answer = await obstore.get_async(self._store, key)
        except FileNotFoundError:
            return None
        if answer.meta["size"] != size:
            return None
        return bytes(await answer.bytes_async())

    async def _delete(self, key: str) -> None:
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError:
            return


async def _told(work: Awaitable[_Found]) -> _Found:
    try:
        async with asyncio.timeout(_SECONDS):
            return await work
    except TimeoutError:
        raise ObjectsUnavailable("the store does not answer in time") from None
    except Exception as error:  # as above
        raise ObjectsUnavailable(f"the store refuses or cannot be reached ({type(error).__name__})") from None


def _made(driver: str, bucket: str, prefix: str, options: Mapping[str, str]) -> Any:
    if driver == "local":
        return LocalStore(prefix=prefix, mkdir=True)
    kind: Any = {"s3": S3Store, "gcs": GCSStore, "azure": AzureStore}[driver]
    given = dict(options)
    # Plain HTTP is for stores on the own network, and asked for by an address or by name.
    allow_http = given.pop("allow_http", "") == "true" or given.get("endpoint", "").startswith("http://")
    client: dict[str, Any] = {"timeout": "20s", "connect_timeout": "5s", "allow_http": allow_http}
    retry = {"max_retries": 2, "retry_timeout": timedelta(seconds=20)}
    return kind(bucket, prefix=prefix or None, config=given, client_options=client, retry_config=retry)
