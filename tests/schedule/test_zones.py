"""What `actors.schedule.zones` takes for granted of the zones, and that it reads the package's own."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

import pytest

from actors.schedule import zones
from tests.schedule.zone_files import changes, names


@pytest.mark.slow
def test_changes_are_far_apart_in_every_zone() -> None:
    """Further than a search steps, and further than they reach; or else one of them would be overlooked."""
    for name in names():
        listed = changes(name)
        for (earlier, before, between), (later, _, after) in pairwise(listed):
            assert later - earlier > 6 * 3600, name
            assert later - earlier > abs(between - before) and later - earlier > abs(after - between), name
        assert all(abs(after - before) <= 24 * 3600 for _, before, after in listed), name


@pytest.mark.parametrize("name", ["Africa/Monrovia", "America/Santiago", "Australia/Lord_Howe", "Asia/Gaza", "Pacific/Apia"])
def test_pieces_are_those_of_the_zone_file(name: str) -> None:
    listed = [each for each in changes(name) if each[0] > -1_000_000_000]
    starts = [at for at, _, _ in listed]
    for at, before, after in listed:
        piece = zones.piece_at(name, at)
        assert (piece.start, piece.before, piece.offset) == (at, before, after)
        assert zones.piece_at(name, at - 1).offset == before
    for at in range(starts[0], starts[-1], 10_000_019):
        assert zones.piece_at(name, at).offset == listed[bisect_right(starts, at) - 1][2]


def test_a_change_at_the_end_of_a_year_is_seen_in_the_next() -> None:
    """Apia's day that was left out ended with the year in UTC."""
    at = next(at for at, before, after in changes("Pacific/Apia") if after - before == 86_400)
    assert zones.piece_at("Pacific/Apia", at + 86_399).start == at


def test_names_are_known_in_small_and_capital_letters() -> None:
    assert zones.known("europe/BERLIN") == "Europe/Berlin"
    assert zones.known("utc") == "UTC"
    assert zones.known("America/Argentina/Ushuaia") == "America/Argentina/Ushuaia"
    for name in ("", "Mars/Olympus", "../UTC", "+02:00", "Europe", "Europe/", "UTC\0"):
        assert zones.known(name) is None
