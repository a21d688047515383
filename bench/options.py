"""What a benchmark run is told: shared by the runner and the load generator, passed between them as JSON."""

from __future__ import annotations

from msgspec import Struct


class Options(Struct, frozen=True):
    """Times are seconds. `urls` are the nodes the load is spread over; the load generator gets them from the runner."""

    urls: tuple[str, ...] = ()
    dsn: str = ""
    """The database, for workloads that fill it first; empty when a server is given that runs elsewhere."""
    token: str = "dev-token"
    namespace: str = "default"
    warmup: float = 5.0
    """Load before the measured window opens."""
    duration: float = 20.0
    """Length of the measured window (the idle workload rounds it up to whole poll holds)."""
    in_flight: int = 64
    """Closed loop: workflows open at a time."""
    workers: int = 4
    """Registered workers, each on a task queue of its own."""
    polls: int = 16
    """Connections of each worker and family (workflow, activity) that poll, work and complete in a loop."""
    rate: float = 20.0
    """Open loop: starts per second."""
    parked: int = 2000
    """Idle: polls held."""
    replay: float = 1.0
    """Fan-out: how long a worker takes to replay, as a multiple of the SDK's time."""
    signal_rate: float = 1050.0
    """Signals: sent per second, a little more than the target so that it can be seen to be reached."""
    history_events: int = 10_000
    """Long histories: events of the run before it is woken."""
    runs: int = 1_010_000
    """Visibility: runs in the database, one in a hundred and one of them open."""
    expired: int = 150_000
    """Retention: runs to prune in the database."""
    schedules: int = 1000
    """Schedules: due in the same second."""
    idle_schedules: int = 10_000
    """Idle schedules: there and not due."""
    payload_bytes: int = 1024
    """Length of the text that goes through the workflow's input, the activity's argument and its result."""
    patience: float = 30.0
    """A workflow that takes longer to complete counts as failed."""
