"""Which runs' events are being published again by this process, and how far it is with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from actors.run import ids
from store.cluster.republishing import Job

_EVENT_ID_AT = len('{"id":"')
_TIME_LENGTH = 10


def bound(at: int) -> str:
    """An id behind those made before a time (microseconds) and before those made from then on."""
    return ids.mint(max(0, at // 1000), ids.RunKey("0" * 15), "0")


def first_since(lines: list[bytes], since: int) -> int:
    """The sequence of the first event of a run recorded since a time (microseconds); one behind the last when there is none.

    `lines` are all its events.
    """
    start = bound(since)[:_TIME_LENGTH].encode()
    for place, line in enumerate(lines):
        if line[_EVENT_ID_AT : _EVENT_ID_AT + _TIME_LENGTH] >= start:
            return place + 1
    return len(lines) + 1


class Repetition:
    """The jobs of all shards as last read, and the runs this process has done or is at.

    While a run is covered by a job and not done yet, its new events wait: they come behind the repeated ones.
    """

    def __init__(self) -> None:
        self.jobs: Mapping[int, Job] = {}
        self._done: set[str] = set()
        self._at: dict[str, tuple[int, int]] = {}  # run -> acknowledged up to, done with

    def replace(self, jobs: Mapping[int, Job]) -> set[int]:
        """Take over what is to be done now; the shards with a job that is new."""
        fresh = {shard for shard, job in jobs.items() if shard not in self.jobs or self.jobs[shard].job != job.job}
        self.jobs = jobs

        def stale(run_id: str) -> bool:
            shard = ids.shard_of_id(run_id)
            job = jobs.get(shard)
            return job is None or shard in fresh or run_id <= job.after_run

        self._done = {run_id for run_id in self._done if not stale(run_id)}
        self._at = {run_id: at for run_id, at in self._at.items() if not stale(run_id)}
        return fresh

    def job_of(self, run_id: str, namespace: str | None) -> Job | None:
        """The job that covers a run still to be done (`namespace` None: not known, then only jobs of all namespaces count)."""
        job = self.jobs.get(ids.shard_of_id(run_id))
        if job is None or run_id in self._done or not job.after_run < run_id < job.upto_run:
            return None
        return job if job.namespace is None or job.namespace == namespace else None

    def is_open(self, run_id: str) -> bool:
        """Whether a run is not done yet that is known to be covered by its shard's job."""
        job = self.jobs.get(ids.shard_of_id(run_id))
        return job is not None and run_id not in self._done and job.after_run < run_id < job.upto_run

    def holds(self, run_id: str, namespace: str) -> bool:
        """Whether new events of a run must wait, because it is still to be begun with."""
        return run_id not in self._at and self.job_of(run_id, namespace) is not None

    def reached(self, run_id: str) -> int | None:
        """How far the repetition of a run is acknowledged; None when it was not begun."""
        at = self._at.get(run_id)
        return None if at is None else at[0]

    def begin(self, run_id: str, after: int, upto: int) -> None:
        """A run's events behind `after` are being published again; it is done when that of `upto` is acknowledged."""
        if after >= upto:
            self._at.pop(run_id, None)
            self._done.add(run_id)
        else:
            self._at[run_id] = (after, upto)

    def acked(self, run_id: str, sequence: int) -> None:
        """The stream has a run's event."""
        at = self._at.get(run_id)
        if at is not None:
            self.begin(run_id, max(sequence, at[0]), at[1])

    def skip(self, run_id: str) -> None:
        """A run needs nothing: it is no more, or only begins."""
        self.begin(run_id, 0, 0)

    def forget(self, shards: Collection[int]) -> None:
        """These shards are hosted elsewhere: nothing of them is done here."""

        def gone(run_id: str) -> bool:
            return ids.shard_of_id(run_id) in shards

        self._done = {run_id for run_id in self._done if not gone(run_id)}
        self._at = {run_id: at for run_id, at in self._at.items() if not gone(run_id)}
