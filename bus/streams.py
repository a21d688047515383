"""Creates the JetStream streams, and creates them again after NATS lost its data."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import nats.errors
from nats.js.api import StreamConfig, StreamInfo
from nats.js.errors import APIError, NotFoundError

from base.observability.actions import said
from bus.connection import Bus

_log = logging.getLogger("dw.bus")

_told: dict[str, str] = {}  # what was said last about a stream's old configuration
_NAME_IN_USE = 10058  # JetStream: the stream is there with another configuration


@dataclass(slots=True, frozen=True)
class StreamSight:
    """A stream at a moment. `created`: its identity, the time it was made. `last_sequence`: of all it ever stored."""

    created: str
    last_sequence: int


async def look_at(bus: Bus, name: str) -> StreamSight | None:
    """The stream as it is now (`created` "": there is none); None when nobody answers within some seconds."""
    js = bus.jetstream()
    if js is None:
        return None
    try:
        info = await js.stream_info(name)
    except NotFoundError:
        return StreamSight("", 0)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        bus.last_error = f"stream {name}: {type(error).__name__}: {error}"
        return None
    return None if info.created is None else StreamSight(info.created.isoformat(), info.state.last_seq)


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
        if _told.get(str(config.name)) != str(error.description):
            _told[str(config.name)] = str(error.description)
            _log.warning(
                "stream %s keeps its old configuration: %s",
                config.name,
                error.description,
                extra=said("stream.config_refused", stream=config.name),
            )
    except (nats.errors.Error, OSError, TimeoutError) as error:
        bus.last_error = f"stream {config.name}: {type(error).__name__}: {error}"
        return None
    try:
        return await js.stream_info(str(config.name))
    except (nats.errors.Error, OSError, TimeoutError):
        return None
