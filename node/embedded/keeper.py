"""Starts embedded services again that ended without having been told to."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from typing import Protocol

from base.observability.actions import said
from node.embedded.files import EmbeddedError

log = logging.getLogger("dw.embedded")

LOOK_SECONDS = 0.1
PAUSE_SECONDS = (0.2, 10.0)
HEALTHY_SECONDS = 10.0
STOP_SECONDS = 15.0


class Kept(Protocol):
    """An embedded service. `start` brings it back to the same address with the same data."""

    name: str

    @property
    def pid(self) -> int | None: ...

    def start(self) -> str: ...


class Keeper:
    """Looks after services that run, in a thread of its own, from `start` until `stop`."""

    def __init__(self, services: Sequence[Kept]) -> None:
        self._services = services
        self._leaving = threading.Event()
        self._threads = [threading.Thread(target=self._keep, args=(each,), daemon=True) for each in services]

    def start(self) -> None:
        """Begin; the services run already."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """From now on they may end. Waits for a start under way."""
        self._leaving.set()
        for thread in self._threads:
            thread.join(STOP_SECONDS)

    def _keep(self, service: Kept) -> None:
        pause, longest = PAUSE_SECONDS
        since = time.monotonic()
        while not self._leaving.wait(LOOK_SECONDS):
            if service.pid is not None:
                continue
            if time.monotonic() - since > HEALTHY_SECONDS:
                pause = PAUSE_SECONDS[0]
            log.warning(
                "the embedded %s ended by itself, it is started again in %.1f s",
                service.name,
                pause,
                extra=said("service.restarted", part=service.name, seconds=pause),
            )
            while not self._leaving.wait(pause):
                pause = min(pause * 2, longest)
                try:
                    service.start()
                    break
                except (EmbeddedError, OSError) as error:
                    reason = str(error).splitlines()[-1:]
                    log.warning(
                        "the embedded %s does not start, tried again in %.1f s: %s",
                        service.name,
                        pause,
                        *reason,
                        extra=said("service.waiting", part=service.name, seconds=pause),
                    )
            since = time.monotonic()
