"""Creates the JetStream streams, and creates them again after NATS lost its data."""

from __future__ import annotations

import logging

import nats.errors
from nats.js.api import StreamConfig, StreamInfo
from nats.js.errors import APIError

from bus.connection import Bus

_log = logging.getLogger(__name__)

_NAME_IN_USE = 10058  # JetStream: the stream is there with another configuration


async def ensure_stream(bus: Bus, config: StreamConfig) -> StreamInfo | None:
    """Make the stream exist with `config` (an existing one is updated).

    None: not possible now, try again later; nothing is raised.
    """
    js = bus.jetstream()
    if js is None:
        return None
    try:
        return await js.add_stream(config)
    except APIError as error:
        if error.err_code != _NAME_IN_USE:
            bus.last_error = f"stream {config.name}: {error}"
            return None
    except (nats.errors.Error, OSError, TimeoutError) as error:
        bus.last_error = f"stream {config.name}: {type(error).__name__}: {error}"
        return None
    try:
        return await js.update_stream(config)
    except APIError as error:
        # Some settings cannot be changed on a living stream; one that exists is better than none.
        _log.warning("stream %s keeps its old configuration: %s", config.name, error.description)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        bus.last_error = f"stream {config.name}: {type(error).__name__}: {error}"
        return None
    try:
        return await js.stream_info(str(config.name))
    except (nats.errors.Error, OSError, TimeoutError):
        return None
