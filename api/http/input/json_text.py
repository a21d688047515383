"""JSON as text: what clients send is read as far as the server must understand it, the rest is checked and handed on as text.

Text that came through `check` is valid JSON of at most MAX_DEPTH levels in valid UTF-8 without lone surrogates; numbers have
any size and precision, but integers no more digits than clients in Python can read. Of members of the same name the last counts
where the server looks; text handed on keeps all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from typing import Any

import msgspec
from msgspec import Raw

MAX_DEPTH = 512
MAX_DIGITS = 4300

# Values up to this many bytes are read at once; a larger list or object is opened level by level.
SHORT = 4096

# Texts of more members or items than this (told by commas) are taken apart piece by piece.
_MANY = 50_000

# So much is looked at in one go: another thread waits no longer for its turn.
_SLICE = 16_384

_NO_BRACKETS = bytes(sorted(set(range(256)) - set(b"[]{}")))
_LEVEL = [0] * 256
_LEVEL[ord("[")] = _LEVEL[ord("{")] = 1
_LEVEL[ord("]")] = _LEVEL[ord("}")] = -1

_SMALL_INTEGER = re.compile(rb"(?:0|-?[1-9][0-9]{0,17})\Z")
_DIGITS = b"0123456789"
_LONG_INTEGER = re.compile(rb"(?<![0-9.eE+])[0-9]{%d,}(?![0-9.eE])" % (MAX_DIGITS + 1))
_ESCAPE = re.compile(rb"\\.", re.DOTALL)
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_UNICODE_ESCAPES = re.compile(rb"(?<!\\)((?:\\\\)*)((?:\\u[0-9a-fA-F]{4})+)")

decode = msgspec.json.Decoder().decode
_raw = msgspec.json.Decoder(Raw).decode
_object = msgspec.json.Decoder(dict[str, Raw]).decode
_list = msgspec.json.Decoder(list[Raw]).decode
_encode = msgspec.json.Encoder().encode

Members = dict[str, Any]


class Malformed(Exception):
    """Text that is no JSON, or is nested too deep; the exception's text says why."""


class Sparse:
    """An object of very many members, of which few are asked for: each is searched in the text."""

    __slots__ = ("_text",)

    def __init__(self, text: bytes) -> None:
        self._text = text

    def get(self, name: str, default: Any = None) -> Any:
        found = _finder(name)(self._text).value
        return found if bytes(found) else default

    def __contains__(self, name: str) -> bool:
        return bool(bytes(_finder(name)(self._text).value))


@lru_cache(maxsize=512)
def _finder(name: str) -> Any:
    fields: Any = [("value", Raw, Raw(b""))]
    return msgspec.json.Decoder(msgspec.defstruct("Member", fields, rename={"value": name})).decode


def check(text: bytes) -> None:
    """Raises Malformed unless the text is what this module says above."""
    try:
        if not text.isascii():
            str(text, "utf-8")
        _raw(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(str(error)) from None
    if _has_long_run(text):
        outside = b"".join(b'"'.join(parts[inside::2]) for _, parts, inside in _slices(text))
        if _LONG_INTEGER.search(outside):
            raise Malformed(f"An integer has more than {MAX_DIGITS} digits.")
    check_depth(text)


def _has_long_run(text: bytes) -> bool:
    """Whether more than MAX_DIGITS digits follow each other: then one of them stands where this looks."""
    for at in range(0, len(text), MAX_DIGITS):
        if 48 <= text[at] <= 57:
            behind = text[at : at + MAX_DIGITS + 1]
            before = text[max(0, at - MAX_DIGITS) : at]
            digits = len(behind) - len(behind.lstrip(_DIGITS)) + len(before) - len(before.rstrip(_DIGITS))
            if digits > MAX_DIGITS:
                return True
    return False


def check_depth(text: bytes) -> None:
    """Raises Malformed when valid JSON text is nested deeper than MAX_DEPTH."""
    if text.count(b"[") + text.count(b"{") > MAX_DEPTH and _deepest(text) > MAX_DEPTH:
        raise Malformed(f"The nesting is deeper than {MAX_DEPTH} levels.")


def _slices(text: bytes) -> Iterator[tuple[int, list[bytes], bool]]:
    """Valid JSON text in slices: where one begins, its parts between quotes, and whether the first part is inside a string.

    Escapes in them are overwritten, so that each quote is the end of a string.
    """
    start, inside = 0, False
    while start < len(text):
        end = start + _SLICE
        while end < len(text) and text[end - 1] == 0x5C:  # no cut behind a backslash
            end += 1
        part = text[start:end]
        parts = (_ESCAPE.sub(b"__", part) if b"\\" in part else part).split(b'"')
        yield start, parts, inside
        start = end
        inside ^= not len(parts) & 1


def _deepest(text: bytes) -> int:
    """How deep valid JSON text is nested."""
    deepest = level = 0
    for _, parts, inside in _slices(text):
        brackets = b"".join(parts[inside::2]).translate(None, _NO_BRACKETS)
        if brackets:
            levels = list(accumulate(map(_LEVEL.__getitem__, brackets), initial=level))
            level = levels[-1]
            levels.append(deepest)
            deepest = max(levels)
    return deepest


def _pieces(text: bytes) -> Iterator[bytes]:
    """The text of a list or an object of very many items as texts of several, which hold them in order."""
    text = text.strip()
    opening, closing = text[:1], text[-1:]
    level, begun = 0, 1
    for start, parts, inside in _slices(text):
        parts[not inside :: 2] = [b"x" * len(part) for part in parts[not inside :: 2]]
        masked = b'"'.join(parts)
        levels = list(accumulate(map(_LEVEL.__getitem__, masked), initial=level))
        level = levels[-1]
        at = masked.rfind(b",")
        while at >= 0 and levels[at] != 1:
            at = masked.rfind(b",", 0, at)
        if at >= 0:
            yield opening + text[begun : start + at] + closing
            begun = start + at + 1
    yield opening + text[begun:]


def _members(text: bytes) -> dict[str, Raw]:
    if text.count(b",") <= _MANY:
        return _object(text)
    found: dict[str, Raw] = {}
    for piece in _pieces(text):
        found.update(_object(piece))
    return found


def holds_nul(text: bytes) -> bool:
    """Whether a string or a name in JSON text contains the character NUL."""
    return b"\\u0000" in text and _NUL.search(text) is not None


def members(text: bytes | Raw) -> Members | Sparse:
    """The members of the text of an object, each as text."""
    text = bytes(text)
    return _object(text) if text.count(b",") <= _MANY else Sparse(text)


def items(text: bytes | Raw) -> list[Raw]:
    """The items of the text of a list, each as text."""
    text = bytes(text)
    return _list(text) if text.count(b",") <= _MANY else [item for piece in _pieces(text) for item in _list(piece)]


def opened(raw: Raw) -> Any:
    """The value of a text: scalars always (numbers out of range as infinity), lists and objects if they are short.

    A longer list or object stays the text it is.
    """
    view = memoryview(raw)
    if len(view) > SHORT and view[0] in b"[{":
        return raw
    text = bytes(raw)
    try:
        return decode(text)
    except msgspec.ValidationError:  # a number that no float can hold
        if text[:1] in (b"[", b"{"):
            return raw
        return -math.inf if text[:1] == b"-" else math.inf


def is_null(raw: Raw) -> bool:
    """Whether a text is null, without copying it."""
    return memoryview(raw)[0] == ord("n")


def opened_members(text: Raw) -> Members:
    """The members of the text of an object, each as `opened` gives it."""
    return {name: opened(raw) for name, raw in _members(bytes(text)).items()}


def shallow(text: bytes | Raw) -> Members:
    """The members of the text of an object: strings, booleans, null and small integers are read, all else is compact text."""
    return {name: _simple(raw) for name, raw in _members(bytes(text)).items()}


def _simple(raw: Raw) -> Any:
    text = bytes(raw)
    simple = text[:1] in (b'"', b"t", b"f", b"n") or _SMALL_INTEGER.match(text)
    return decode(text) if simple else compact(text)


def listed(value: Any) -> list[Any] | None:
    """The items of a list, opened or not; None when it is no list. Those of a long one are texts."""
    if type(value) is list:
        return value
    return items(value) if type(value) is Raw and kind(value) is list else None


def plain(value: Any) -> Any:
    """A value, if it may be a text as `opened` gives it."""
    return opened(value) if type(value) is Raw else value


def names(text: bytes) -> list[str]:
    """The names of an object's members."""
    return list(_members(text))


def values(text: bytes) -> bytes:
    """The text of the list of an object's values."""
    return b"[%b]" % b",".join(map(bytes, _members(text).values()))


def kind(value: Any) -> type:
    """What a value is, opened or not: `dict`, `list`, or the type of a scalar."""
    if type(value) is Raw:
        return dict if memoryview(value)[0] == 0x7B else list
    return type(value)


def compact(text: bytes | Raw) -> bytes:
    """JSON text without blanks and with its non-ASCII characters as they are (worker-protocol 9.3); numbers as written."""
    text = bytes(msgspec.json.format(bytes(text), indent=-1))
    if b"\\u" in text:
        text = _UNICODE_ESCAPES.sub(_unescaped, text)
    return text


def _unescaped(match: re.Match[bytes]) -> bytes:
    characters: str = decode(b'"' + match[2] + b'"')
    return match[1] + _encode(characters)[1:-1]


def text_of(value: Any) -> bytes:
    """The compact text of a value, opened or not."""
    return compact(value) if type(value) is Raw else _encode(value)
