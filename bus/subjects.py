"""Every NATS name this server uses, and how user strings become subject tokens.

`P` is the configured prefix (`DW_NATS_PREFIX`, contract configuration-and-security 6.7), `N` a node id, `S` random
letters per process: whoever bears the node id after it, or beside it, hears nothing of what is meant for it.

| subject                                  | kind      | what travels                                                       |
| ---------------------------------------- | --------- | ------------------------------------------------------------------ |
| `P.ask.N.S`                              | core      | a request to node N; reply subject in `P.inbox`                    |
| `P.unask.N.S`                            | core      | body = reply subject of a request whose asker gave up              |
| `P.inbox.N.S.<number>`                   | core      | replies to node N                                                  |
| `P.tell.N.S`                             | core      | one-way message to node N                                          |
| `P.all.<topic>.N`                        | core      | broadcast sent by node N to all others                             |
| `P.dispatch.N`                           | JetStream | ready tasks for the queues hosted by N; stream `P_dispatch`, memory |
| `P.deliver.N.S`                          | core      | what the consumer of `P.dispatch.N` pushes to the node             |
| `P.events.<namespace>.<workflow type>.<workflow id>.<event type>` | JetStream | history events, stream `P_events` |
| `P.acks.N.S.<run id>.<sequence>`         | core      | JetStream's acknowledgements of published events                   |
| `P.api.>`                                | core      | replies of the JetStream management API                            |

Besides these a node publishes to `$JS.API.>`; an account restricted to `P.>` and `$JS.API.>` is enough.

User strings (namespace, workflow type, workflow id, node id, topic) are one token each: every byte of their UTF-8 form
that is not a visible ASCII character, and `.`, `*`, `>`, `%`, is written `%XX` (upper-case hex); the empty string is
`%`. A token longer than 600 characters keeps its first 560 and ends in `%~` and a digest, so that a subject fits the
control line of 4,096 bytes NATS allows; only such a token cannot be decoded (a subscriber finds the full id in the
event's body).
"""

from __future__ import annotations

import hashlib
import re
from functools import lru_cache

_PLAIN = re.compile(r"[!-)+-\-/-=?-~]+")  # visible ASCII but * . > (and % below)
_PREFIX = re.compile(r"[A-Za-z0-9_-]{1,32}")
_SAFE_BYTES = frozenset(range(0x21, 0x7F)) - frozenset(b".*>%")
_KEEP = 560
MAX_TOKEN = 600


def token(text: str) -> str:
    """One subject token for any string (see the module's text); reversible with `untoken` unless it had to be shortened."""
    if len(text) <= MAX_TOKEN and "%" not in text and _PLAIN.fullmatch(text):
        return text
    if not text:
        return "%"
    raw = text.encode("utf-8", "surrogatepass")
    coded = "".join(chr(byte) if byte in _SAFE_BYTES else f"%{byte:02X}" for byte in raw)
    if len(coded) <= MAX_TOKEN:
        return coded
    return f"{coded[:_KEEP]}%~{hashlib.blake2b(raw, digest_size=16).hexdigest()}"


def untoken(coded: str) -> str:
    """The string a token was made from. Raises ValueError for a shortened or malformed token."""
    if coded == "%":
        return ""
    parts = coded.split("%")
    raw = bytearray(parts[0].encode("ascii"))
    for part in parts[1:]:
        if not re.match(r"[0-9A-F]{2}", part):
            raise ValueError(f"not a reversible token: {coded[:80]!r}")
        raw.append(int(part[:2], 16))
        raw += part[2:].encode("ascii")
    return raw.decode("utf-8", "surrogatepass")


_cached_token = lru_cache(maxsize=4096)(token)


class Subjects:
    """The names for one prefix. Raises ValueError when the prefix is not 1-32 letters, digits, `-` or `_`."""

    def __init__(self, prefix: str = "dw") -> None:
        if not _PREFIX.fullmatch(prefix):
            raise ValueError("the NATS prefix must be 1 to 32 letters, digits, '-' or '_'")
        self.prefix = prefix
        self.event_stream = f"{prefix}_events"
        self.dispatch_stream = f"{prefix}_dispatch"
        self.all_events = f"{prefix}.events.>"
        self.all_dispatch = f"{prefix}.dispatch.*"
        self.api_inbox = f"{prefix}.api"

    def ask(self, node_id: str, process: str) -> str:
        """Requests to one process of a node: never heard by its successor."""
        return f"{self.prefix}.ask.{_cached_token(node_id)}.{process}"

    def unask(self, node_id: str, process: str) -> str:
        """Withdrawn requests to a process of a node."""
        return f"{self.prefix}.unask.{_cached_token(node_id)}.{process}"

    def inbox(self, node_id: str, session: str = "") -> str:
        """Start of the reply subjects of a node (with its dot); all of its processes' ones without `session`."""
        return f"{self.prefix}.inbox.{_cached_token(node_id)}." + (f"{session}." if session else "")

    def tell(self, node_id: str, process: str) -> str:
        """One-way messages to a process of a node."""
        return f"{self.prefix}.tell.{_cached_token(node_id)}.{process}"

    def broadcast(self, topic: str, node_id: str) -> str:
        """A broadcast of `node_id`; node id `*` stands for every sender."""
        return f"{self.prefix}.all.{_cached_token(topic)}.{'*' if node_id == '*' else _cached_token(node_id)}"

    def dispatch(self, node_id: str) -> str:
        """Ready tasks for a node."""
        return f"{self.prefix}.dispatch.{_cached_token(node_id)}"

    def deliver(self, node_id: str, session: str) -> str:
        """Where the dispatch consumer of a node delivers."""
        return f"{self.prefix}.deliver.{_cached_token(node_id)}.{session}"

    def acks(self, node_id: str, session: str) -> str:
        """Start of the acknowledgement subjects of a node (with its dot)."""
        return f"{self.prefix}.acks.{_cached_token(node_id)}.{session}."

    def event(self, namespace: str, workflow_type: str, workflow_id: str, event_type: str) -> str:
        """The subject of one history event (architecture, rule 8)."""
        return (
            f"{self.prefix}.events.{_cached_token(namespace)}.{_cached_token(workflow_type)}."
            f"{token(workflow_id)}.{_cached_token(event_type)}"
        )
