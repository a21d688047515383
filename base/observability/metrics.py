"""The seam for metrics: what is measured, and where measures go. Nothing collects them yet.

Code that measures is handed a `Metrics`, `NO_METRICS` by default, and calls it with an instrument of this module. Labels have
few values each: no ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Labels = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Instrument:
    """Something measured. `labels` name the parts of the labels given with each measure; `unit` is `1` for plain numbers."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    unit: str
    about: str
    labels: tuple[str, ...] = ()


REQUESTS = Instrument(
    "requests", "counter", "1", "requests answered; `route` is the template, `none` without one", ("method", "route", "status")
)
POLLS = Instrument(
    "polls",
    "counter",
    "1",
    "polls by what came of them: `task`, `empty`, `draining`, `gone` (the client left)",
    ("kind", "outcome"),
)
COMMITS = Instrument("commits", "counter", "1", "writes of runs: `stored`, or `lost` to one that was earlier", ("outcome",))
STORED: Labels = ("stored",)
LOST: Labels = ("lost",)
COMMIT_SECONDS = Instrument("commit_seconds", "histogram", "s", "how long the statement of a group commit took")
EVENTS_WAITING = Instrument(
    "events_waiting", "gauge", "1", "committed events that the stream has not acknowledged, at a look a second"
)

INSTRUMENTS = (REQUESTS, POLLS, COMMITS, COMMIT_SECONDS, EVENTS_WAITING)


class Metrics(Protocol):
    """Where measures go. Called on the event loop, often: an implementation is quick and raises nothing."""

    def count(self, instrument: Instrument, labels: Labels = (), by: int = 1) -> None:
        """Something happened `by` times (a counter)."""

    def gauge(self, instrument: Instrument, value: float, labels: Labels = ()) -> None:
        """A number as it stands now."""

    def observe(self, instrument: Instrument, value: float, labels: Labels = ()) -> None:
        """One of many values, of which the distribution counts (a histogram)."""


class NoMetrics:
    """Measures go nowhere."""

    def count(self, instrument: Instrument, labels: Labels = (), by: int = 1) -> None: ...

    def gauge(self, instrument: Instrument, value: float, labels: Labels = ()) -> None: ...

    def observe(self, instrument: Instrument, value: float, labels: Labels = ()) -> None: ...


NO_METRICS: Metrics = NoMetrics()
