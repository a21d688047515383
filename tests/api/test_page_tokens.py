"""Tokens of lists: opaque, bound to their list, and never an error of ours."""

from __future__ import annotations

import base64

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.http.page_tokens import ListTokens, _mark
from store.visibility.listing import Position

PLACE = Position(1_777_000_000_000_000, "01kp2r0000abcdefghjkmnpqrs")
TOKENS = ListTokens(Position, "workflows", "default", "order", None, None)


def test_a_token_leads_back_to_its_position() -> None:
    token = TOKENS.encode(PLACE)
    assert TOKENS.decode(token) == PLACE
    assert TOKENS.decode(f" {token} ") == PLACE
    assert set(token) < set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"), "goes into a URL as it is"


@pytest.mark.parametrize(
    "parts",
    [
        ("workflows", "lab", "order", None, None),
        ("workflows", "default", None, "order", None),
        ("workflows", "default", "order", "failed", None),
        ("workflows", "default", "order", None, "x"),
        ("schedules", "default", "order", None, None),
    ],
)
def test_a_token_of_another_list_means_the_first_page(parts: tuple[str | None, ...]) -> None:
    assert ListTokens(Position, *parts).decode(TOKENS.encode(PLACE)) is None


def test_an_altered_token_is_not_readable() -> None:
    token = TOKENS.encode(PLACE)
    for at in range(len(token) - 1):  # bits of the last character may fall away
        other = "A" if token[at] != "A" else "B"
        assert TOKENS.decode(token[:at] + other + token[at + 1 :]) is None
        assert TOKENS.decode(token[:at]) is None


@given(st.one_of(st.text(max_size=99), st.binary(max_size=99).map(lambda b: base64.urlsafe_b64encode(b).decode()), st.none()))
def test_what_is_no_token_reads_as_none(token: object) -> None:
    assert TOKENS.decode(token) is None


@pytest.mark.parametrize("place", [(1 << 63, "r"), (-1, "r"), (1, "a\x00b"), (1, ""), (1,), ("1", "r"), (1, "r" * 300)])
def test_a_position_that_cannot_be_is_none(place: tuple[object, ...]) -> None:
    """Also when somebody made the marks right: the store must not be asked for it."""
    marked = TOKENS._list + msgspec.msgpack.encode(place)
    token = base64.urlsafe_b64encode(_mark(marked) + marked).decode()
    assert TOKENS.decode(token) is None
