"""The `cache` check of `/api/ready`: does NATS keep a value (configuration-and-security 8.2)."""

from __future__ import annotations

import secrets

from nats.errors import Error as NatsError
from nats.js import JetStreamContext
from nats.js.api import KeyValueConfig, StorageType
from nats.js.errors import BucketNotFoundError, NotFoundError
from nats.js.kv import KeyValue

from bus.connection import Bus

TTL_SECONDS = 10
HISTORY = 1


class NatsProbe:
    """Probes a bucket of the deployment's own; it is made when it is not there."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._bucket = f"{bus.options.prefix.replace('.', '_')}_probe"

    async def __call__(self) -> str | None:
        """None when the round trip worked, else why not."""
        streams = self._bus.jetstream()
        if streams is None:
            return "NATS is not connected."
        try:
            bucket = await self._open(streams)
            key, value = secrets.token_hex(8), secrets.token_bytes(8)
            await bucket.put(key, value)
            same = (await bucket.get(key)).value == value
            await bucket.purge(key)
        except (NatsError, NotFoundError, OSError, TimeoutError) as error:
            reason = getattr(error, "description", None) or type(error).__name__
            return f"NATS did not keep a value: {reason}."
        return None if same else "NATS returned another value than was written."

    async def _open(self, streams: JetStreamContext) -> KeyValue:
        try:
            return await streams.key_value(self._bucket)
        except (BucketNotFoundError, NotFoundError):
            return await streams.create_key_value(
                KeyValueConfig(
                    bucket=self._bucket,
                    history=HISTORY,
                    ttl=TTL_SECONDS,
                    storage=StorageType.MEMORY,
                    replicas=self._bus.options.replicas,
                )
            )
