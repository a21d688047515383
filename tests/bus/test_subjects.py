"""Subject tokens: reversible, one token, no protocol characters."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bus.subjects import MAX_TOKEN, Subjects, token, untoken


@given(st.text(max_size=60))
def test_a_token_is_one_plain_token_and_decodes_to_its_string(text: str) -> None:
    coded = token(text)
    assert coded and coded.isascii() and coded.isprintable()
    assert not set(coded) & set(" .*>\t\r\n")
    assert untoken(coded) == text


@given(st.text(min_size=1, max_size=20), st.text(min_size=1, max_size=20))
def test_different_strings_have_different_tokens(one: str, other: str) -> None:
    assert (token(one) == token(other)) == (one == other)


@pytest.mark.parametrize(
    ("text", "coded"),
    [
        ("order-17", "order-17"),
        ("", "%"),
        ("a.b", "a%2Eb"),
        ("*", "%2A"),
        (">", "%3E"),
        ("50%", "50%25"),
        ("a b", "a%20b"),
        ("ü", "%C3%BC"),
        ("x\r\nPUB y 0", "x%0D%0APUB%20y%200"),
        ("a,b/c:d@e$", "a,b/c:d@e$"),
    ],
)
def test_examples(text: str, coded: str) -> None:
    assert token(text) == coded


def test_a_very_long_string_is_shortened_and_stays_distinct() -> None:
    one, other = token("ü" * 2000), token("ü" * 1999 + "u")
    assert len(one) <= MAX_TOKEN and one != other
    with pytest.raises(ValueError, match="not a reversible"):
        untoken(one)


def test_every_subject_fits_the_control_line() -> None:
    huge = "€" * 500
    subjects = Subjects("p" * 32)
    line = f"HPUB {subjects.event(huge, huge, huge, huge)} {subjects.acks(huge, 'x' * 12)}{'r' * 26}.1000000 1000 1000000\r\n"
    assert len(line) < 4096


@pytest.mark.parametrize("prefix", ["", "a.b", "a b", "*", "x" * 33, "ü"])
def test_a_prefix_that_is_no_plain_name_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        Subjects(prefix)
