"""Ids that name their run: every id a run hands out leads back to the run and its shard without a look-up.

An id is 26 lower-case Crockford base-32 characters, time-ordered like a ULID (contract engine-semantics 1.1):

    tttttttttt kkkkkkkkkkkkkkk c
    10: time in milliseconds   15: run key (2 characters shard, 13 random)   1: kind

All ids of one run share its run key, so `key_in(task_id)` finds the run of a task. Within a run the time part is strictly
increasing (it may run ahead of the clock by as many milliseconds as ids were minted in one), which makes ids unique without
randomness: the same state and the same time always mint the same ids.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import NewType

# Two of the many strings that are easily mistaken for each other. Any id may be given where a `str` is asked for.
RunKey = NewType("RunKey", str)
RunId = NewType("RunId", str)

ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_PAIRS = [a + b for a in ALPHABET for b in ALPHABET]
_PAIR_VALUE = {pair: value for value, pair in enumerate(_PAIRS)}
_CHARS = frozenset(ALPHABET)

ID_LENGTH = 26

RUN = "0"
WORKFLOW_TASK = "1"
ACTIVITY_TASK = "2"
TIMER_TASK = "3"
ACTIVITY = "4"
ATTEMPT = "5"
TIMER = "6"
EVENT = "7"
FAILURE = "8"
COMMAND = "9"
WAIT = "a"
SIGNAL = "b"
UPDATE = "c"
CHILD = "d"
MESSAGE = "e"
COMMAND_KEY = "f"
SCHEDULE = "g"


def shard_of(namespace: str, name: str, shards: int) -> int:
    """The shard of a workflow id or queue name, equal on every node. `shards`: how many there are, fixed at bootstrap."""
    digest = hashlib.blake2b(f"{namespace}\0{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shards


def new_run_key(shard: int) -> RunKey:
    """A fresh run key in `shard`: 65 random bits, so that two runs never share one in practice (the store refuses it if)."""
    bits = secrets.randbits(65)
    tail = "".join(_PAIRS[(bits >> shift) & 1023] for shift in (55, 45, 35, 25, 15, 5)) + ALPHABET[bits & 31]
    return RunKey(_PAIRS[shard] + tail)


def derived_run_key(shard: int, seed: str) -> RunKey:
    """The run key in `shard` that belongs to `seed`, an id used once: as unlikely to meet another one as a random key."""
    bits = int.from_bytes(hashlib.blake2b(seed.encode(), digest_size=9).digest(), "big")
    tail = "".join(_PAIRS[(bits >> shift) & 1023] for shift in (60, 50, 40, 30, 20, 10)) + ALPHABET[bits & 31]
    return RunKey(_PAIRS[shard] + tail)


def new_run_id(milliseconds: int, run_key: RunKey) -> RunId:
    """The id of the run with `run_key`, begun at a time."""
    return RunId(mint(milliseconds, run_key, RUN))


def mint(milliseconds: int, run_key: RunKey, kind: str) -> str:
    """The id of `kind` at a time, for the run with `run_key`."""
    return (
        _PAIRS[(milliseconds >> 40) & 1023]
        + _PAIRS[(milliseconds >> 30) & 1023]
        + _PAIRS[(milliseconds >> 20) & 1023]
        + _PAIRS[(milliseconds >> 10) & 1023]
        + _PAIRS[milliseconds & 1023]
        + run_key
        + kind
    )


def first_task_of(run_id: str) -> str:
    """The id of a child run's first workflow task, which its parent tells before the run exists; no later task gets it."""
    return run_id[:-1] + WORKFLOW_TASK


def key_in(any_id: str) -> RunKey:
    """The run key inside an id of ours; what comes from outside is checked first (`run_key_of`)."""
    return any_id[10:25]  # type: ignore[return-value]  # a cast would be a call more, in the warm path


def run_key_of(any_id: str) -> RunKey | None:
    """The run key inside any string, None when it is no id of ours."""
    if len(any_id) != ID_LENGTH or not _CHARS.issuperset(any_id):
        return None
    return key_in(any_id)


def kind_of(any_id: str) -> str:
    """The kind character of an id (any string: its last character)."""
    return any_id[-1:]


def shard_in(run_key: RunKey) -> int:
    """The shard a run key was made for."""
    return _PAIR_VALUE[run_key[:2]]


def shard_text(shard: int) -> str:
    """The two characters of a shard in its ids: the 11th and 12th."""
    return _PAIRS[shard]


def shard_of_id(any_id: str) -> int:
    """The shard inside an id of ours."""
    return _PAIR_VALUE[any_id[10:12]]


def minted_at(any_id: str) -> int:
    """The time part of an id, in milliseconds."""
    value = 0
    for start in range(0, 10, 2):
        value = value << 10 | _PAIR_VALUE[any_id[start : start + 2]]
    return value
