"""Replaces a stream that stores nothing any more because its server could not write once (`bus.standstill`).

A client can not open such a stream again. It can find out that the server writes to its disk again, and then put a new stream
in the place of the old one, with the durable consumers of the old one. What the old stream held is gone with that and has to
be published again; the consumers begin at the beginning of the new one.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import nats.errors
import orjson
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DeliverPolicy, StorageType, StreamConfig
from nats.js.errors import BadRequestError, NotFoundError

from base.observability.actions import said
from bus.connection import Bus

_log = logging.getLogger("dw.bus")

_PROBE_BYTES = 256 * 1024
_FAILURES = (nats.errors.Error, OSError, TimeoutError)


async def disk_takes_writes(bus: Bus) -> bool:
    """Whether the server stores something in a file just now; False when it does not answer, too."""
    js = bus.jetstream()
    if js is None:
        return False
    name, subject = f"{bus.subjects.prefix}_disk_probe", f"{bus.subjects.prefix}.disk_probe"
    try:
        # One that could not write either would be closed for writing like the other: never used twice.
        await _delete(js, name)
        await js.add_stream(StreamConfig(name=name, subjects=[subject], storage=StorageType.FILE, max_msgs=1, num_replicas=1))
        try:
            await js.publish(subject, b"\0" * min(_PROBE_BYTES, bus.max_payload), timeout=2)
        finally:
            await _delete(js, name)
    except _FAILURES:
        return False
    return True


async def _delete(js: JetStreamContext, name: str) -> None:
    try:
        await js.delete_stream(name)
    except NotFoundError:
        pass


async def durable_consumers(bus: Bus) -> str | None:
    """The configuration of the durable consumers of the event stream, to be given to `restore_consumers`; None on failure."""
    js = bus.jetstream()
    if js is None:
        return None
    found: list[dict[str, Any]] = []
    try:
        while True:
            page = await js.consumers_info(bus.subjects.event_stream, offset=len(found))
            found += [info.config.as_dict() for info in page]
            if len(page) < 256:  # as many as the server tells at once
                break
    except _FAILURES as error:
        bus.last_error = f"consumers: {type(error).__name__}: {error}"
        return None
    return orjson.dumps([config for config in found if config.get("durable_name")]).decode()


async def delete_event_stream(bus: Bus) -> bool:
    """Remove the stream; whoever publishes next makes it anew."""
    js = bus.jetstream()
    if js is None:
        return False
    try:
        await _delete(js, bus.subjects.event_stream)
    except _FAILURES as error:
        bus.last_error = f"stream: {type(error).__name__}: {error}"
        return False
    return True


async def restore_consumers(bus: Bus, consumers: str) -> bool:
    """Make the consumers again that are not there; each reads the stream from its beginning. False: try again."""
    js = bus.jetstream()
    if js is None:
        return False
    for stored in orjson.loads(consumers):
        config = ConsumerConfig.from_response(stored)
        config = dataclasses.replace(config, deliver_policy=DeliverPolicy.ALL, opt_start_seq=None, opt_start_time=None)
        try:
            try:
                await js.consumer_info(bus.subjects.event_stream, str(config.durable_name))
            except NotFoundError:
                await js.add_consumer(bus.subjects.event_stream, config)
        except BadRequestError as error:
            _log.warning(
                "consumer %s of the event stream is not made again: %s",
                config.durable_name,
                error.description,
                extra=said("stream.consumer_lost", consumer=config.durable_name),
            )
        except _FAILURES as error:
            bus.last_error = f"consumer {config.durable_name}: {type(error).__name__}: {error}"
            return False
    return True
