"""Which runs wait while their events are published again, and where a repetition begins."""

from __future__ import annotations

from actors.publishing.repetition import Repetition, bound, first_since
from actors.run import ids
from store.cluster.republishing import Job

SECOND = 1_000_000
AT = 1_800_000_000 * SECOND


def run(at: int, shard: int = 1) -> str:
    return ids.new_run_id(at // 1000, ids.derived_run_key(shard, f"{at}"))


def job(name: str = "j", *, namespace: str | None = None, after: str = "") -> Job:
    return Job(name, AT - 60 * SECOND, bound(AT), namespace, after)


def test_a_repetition_begins_with_the_first_event_of_its_time() -> None:
    key = ids.new_run_key(3)
    lines = [b'{"id":"%b","event_type":"E"}' % ids.mint((AT + n * SECOND) // 1000, key, ids.EVENT).encode() for n in range(5)]
    assert first_since(lines, 0) == first_since(lines, AT) == 1
    assert first_since(lines, AT + SECOND) == 2
    assert first_since(lines, AT + SECOND + 1000) == 3
    assert first_since(lines, AT + 60 * SECOND) == 6
    assert bound(AT) <= run(AT) < bound(AT + 1000) and bound(-5) == "0" * 26


def test_covered_runs_wait_until_they_are_begun_and_no_others_do() -> None:
    repetition = Repetition()
    old, new, elsewhere = run(AT - SECOND), run(AT + SECOND), run(AT - SECOND, 2)
    assert repetition.replace({1: job()}) == {1} and repetition.replace({1: job()}) == set()
    assert repetition.holds(old, "default")
    assert not repetition.holds(new, "default") and not repetition.holds(elsewhere, "default")
    repetition.begin(old, 3, 7)
    assert not repetition.holds(old, "default") and repetition.is_open(old) and repetition.reached(old) == 3
    repetition.acked(old, 6)
    repetition.acked(old, 5)
    assert repetition.is_open(old) and repetition.reached(old) == 6
    repetition.acked(old, 7)
    assert not repetition.is_open(old) and not repetition.holds(old, "default") and repetition.reached(old) is None
    assert repetition.replace({1: job("another")}) == {1}
    assert repetition.holds(old, "default"), "asked for anew"
    repetition.replace({1: job("another", after=old)})
    assert not repetition.holds(old, "default") and not repetition.is_open(old)


def test_a_job_of_one_namespace_holds_nothing_else() -> None:
    repetition = Repetition()
    old = run(AT - SECOND)
    repetition.replace({1: job(namespace="billing")})
    assert repetition.holds(old, "billing") and not repetition.holds(old, "default")
    assert repetition.job_of(old, None) is None


def test_what_another_node_hosts_is_begun_anew_when_it_comes_back() -> None:
    repetition = Repetition()
    done, begun = run(AT - SECOND), run(AT - 2 * SECOND)
    repetition.replace({1: job()})
    repetition.begin(begun, 1, 5)
    repetition.skip(done)
    repetition.forget({2})
    assert not repetition.is_open(done) and repetition.reached(begun) == 1
    repetition.forget({1})
    assert repetition.holds(done, "default") and repetition.holds(begun, "default")
