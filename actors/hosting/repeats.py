"""Commands that must change a run once, however often they reach it: each carries a key from the edge on.

A command may be put to a run again after an unknown outcome, and may be heard by two processes that both take themselves for
its host. The commit that applies it stores its key with its answer (`store.applied`); who decides it again conflicts, finds the
answer there and gives it. Keys outlive their runs' ends, hand-overs and restarts; they are kept for longer than anything tells
a command again, and a command older than that is not decided at all.
"""

from __future__ import annotations

import msgspec

from actors.run import ids
from actors.run.replies import RunReply
from actors.run.times import Micros

DECIDED_WITHIN_SECONDS = 60.0  # of being accepted at the edge
KEPT_SECONDS = 600.0

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[RunReply] = msgspec.msgpack.Decoder(RunReply)


def new_key(shard: int, now: Micros) -> str:
    """A key for a command accepted `now` (microseconds); it begins with the time."""
    return ids.mint(now // 1000, ids.new_run_key(shard), ids.COMMAND_KEY)


def too_old(key: str, now: Micros) -> bool:
    """Whether a repetition of this command could not be told any more. `now`: microseconds."""
    return ids.minted_at(key) < now // 1000 - DECIDED_WITHIN_SECONDS * 1000


def forgotten_before(now: Micros) -> str:
    """Keys below this one are not needed any more. `now`: microseconds."""
    return ids.mint(max(now // 1000 - int(KEPT_SECONDS * 1000), 0), ids.RunKey(""), "")


def encode_answer(reply: RunReply) -> bytes:
    """The stored form of the answer to a command."""
    return _encoder.encode(reply)


def decode_answer(data: bytes) -> RunReply:
    """An answer from its stored form."""
    return _decoder.decode(data)
