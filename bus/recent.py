"""Answers sent a moment ago: they can still turn out not to have arrived."""

from __future__ import annotations

from collections import OrderedDict


class RecentAnswers:
    """The last answers, up to `most` of them and `most_bytes` in all; each under its own token and its reply subject."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._bytes = 0
        self._sent: OrderedDict[bytes, tuple[bytes, bytes]] = OrderedDict()  # token -> reply subject, answer
        self._tokens: dict[bytes, bytes] = {}  # reply subject -> token

    def add(self, token: bytes, reply: bytes, answer: bytes) -> None:
        """Remember an answer; the oldest ones are forgotten."""
        sent = self._sent
        while sent and (len(sent) >= self._most or self._bytes + len(answer) > self._most_bytes):
            self._forget(next(iter(sent)))
        sent[token] = reply, answer
        self._tokens[reply] = token
        self._bytes += len(answer)

    def _forget(self, token: bytes) -> bytes:
        reply, answer = self._sent.pop(token)
        del self._tokens[reply]
        self._bytes -= len(answer)
        return answer

    def take(self, token: bytes) -> bytes | None:
        """The answer with this token, if it is still remembered; it is forgotten with that."""
        return self._forget(token) if token in self._sent else None

    def take_to(self, reply: bytes) -> bytes | None:
        """The answer sent to this reply subject, likewise."""
        token = self._tokens.get(reply)
        return None if token is None else self._forget(token)
