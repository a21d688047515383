"""The stored order of the 0.4 view: what was appended comes back, and a fragmented order stays small."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from actors.dialects import sdk04
from actors.run.commands.steps import StartTimer
from actors.run.state import View, decode, encode
from actors.run.values import Payload
from tests.core.harness import RunModel, activity, child


@settings(deadline=None)
@given(st.permutations(range(1, 400)), st.integers(0, 40))
def test_any_order_comes_back(order: list[int], block: int) -> None:
    # `block`: how much of it is in order, as most of a history is.
    kept = order[:block] + sorted(order[block:])
    view = View()
    for sequence in kept + list(range(5000, 4000, -1)):
        sdk04._append(view, sequence)
    shown = [sequence for first, last in sdk04._spans(view) for sequence in range(first, last + 1)]
    assert shown == kept + list(range(5000, 4000, -1))
    assert view.length == len(shown)
    assert len(view.spans) <= sdk04._LOOSE_SPANS


def test_signals_under_leases_leave_little_behind() -> None:
    run = RunModel()
    sizes = {}
    while run.state.last_sequence < 3000:
        grant = run.claim()
        run.signal("go")
        run.complete(grant, activity())
        run.succeed(run.claim_activity())
        sizes[run.state.last_sequence] = len(encode(run.state))
    first, last = min(at for at in sizes if at > 500), max(sizes)
    assert len(run.state.view.spans) <= sdk04._LOOSE_SPANS
    assert (sizes[last] - sizes[first]) / (last - first) < 2.0  # bytes per event
    again = decode(encode(run.state))
    assert list(sdk04._spans(again.view)) == list(sdk04._spans(run.state.view))


def test_the_stored_mark_of_a_batch_is_the_same_in_every_version() -> None:
    """A run may outlive the program that recorded its batch: after an upgrade the batch must still be recognised."""
    run = RunModel()
    arguments = Payload("avro", "BLOB", plain='"the same as JSON text"')
    run.batch(
        activity("charge", arguments=arguments, queue="two"),
        activity("charge", arguments=None),
        StartTimer(30),
        child("part", arguments=Payload("json", "[1]")),
        child("part", arguments=Payload("avro", None, {"uri": "s3://bucket/key"})),
    )
    assert run.state.batch.hex() == "bdae5efbfb0f88b342bfc469c8625060"
