"""One more transition costs a long run no more than a short one: neither its state nor what it records grows."""

from __future__ import annotations

from actors.run.state import encode
from tests.core.harness import RunModel, activity

EVENTS = 10_000


def one_round(run: RunModel) -> tuple[int, int]:
    """An activity's outcome and the next activity: bytes of the state, bytes of the events."""
    grant = run.claim()
    run.complete(grant, activity())
    run.succeed(run.claim_activity())
    return len(encode(run.state)), sum(map(len, run.history[-3:]))


def test_a_memo_is_not_written_with_every_transition() -> None:
    """It rests in the event of the start; of its size the state tells a number."""
    plain, with_memo = RunModel(), RunModel(memo={"text": "x" * 65_536})
    assert len(with_memo.data) <= len(plain.data) + 20
    for run in (plain, with_memo):
        run.batch(activity())
    assert len(with_memo.data) <= len(plain.data) + 20


def test_a_long_run_has_no_larger_state() -> None:
    run = RunModel()
    early = max(one_round(run) for _ in range(5))
    while run.state.last_sequence < EVENTS:
        one_round(run)
    late = one_round(run)
    # Numbers take more digits, nothing else.
    assert late[0] <= early[0] + 40 and late[1] <= early[1] + 40
