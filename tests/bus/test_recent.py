"""What is remembered of sent answers, and for how long."""

from __future__ import annotations

from bus.recent import RecentAnswers


def test_an_answer_is_found_once_by_token_or_reply() -> None:
    recent = RecentAnswers(10, 1000)
    for number in range(4):
        recent.add(b"t%d" % number, b"reply%d" % number, b"answer%d" % number)
    assert recent.take(b"t1") == b"answer1"
    assert recent.take(b"t1") is None and recent.take_to(b"reply1") is None
    assert recent.take_to(b"reply2") == b"answer2"
    assert recent.take_to(b"reply2") is None and recent.take(b"t2") is None
    assert recent.take_to(b"nobody") is None and recent.take(b"t0") == b"answer0"


def test_the_oldest_are_forgotten_beyond_the_number() -> None:
    recent = RecentAnswers(3, 1000)
    for number in range(5):
        recent.add(b"t%d" % number, b"reply%d" % number, b"")
    assert [recent.take(b"t%d" % number) is not None for number in range(5)] == [False, False, True, True, True]


def test_the_oldest_are_forgotten_beyond_the_bytes() -> None:
    recent = RecentAnswers(100, 100)
    for number in range(5):
        recent.add(b"t%d" % number, b"reply%d" % number, b"x" * 30)
    assert [recent.take_to(b"reply%d" % number) is not None for number in range(5)] == [False, False, True, True, True]
    recent.add(b"big", b"big reply", b"x" * 5000)
    assert recent.take(b"big") is not None
    for number in range(3):
        recent.add(b"u%d" % number, b"later%d" % number, b"x" * 30)
    assert all(recent.take(b"u%d" % number) for number in range(3))
