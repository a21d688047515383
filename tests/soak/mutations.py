"""What is done to valid requests: to values, fields, ids, queries, header fields, methods, bytes and framing."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

from tests.soak.message import CONTROL_FIELD, WORKER_FIELD, Members, Request, Text
from tests.soak.valid import TOKENS

LIMIT_BYTES = 256 * 1024  # of a body; the soak's server is configured so


def _nested(depth: int, opening: bytes = b"[", closing: bytes = b"]", core: bytes = b"1") -> Text:
    return Text(opening * depth + core + closing * depth)


_DEPTHS = (30, 250, 253, 254, 255, 256, 300, 500, 508, 509, 510, 511, 512, 513, 520, 600)

_STRANGE: list[Any] = [
    None, True, False, 0, -1, 1, 1.5, -0.0, 2**31 - 1, 2**31, 2**53, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63) - 1, 10**20,
    Text(b"1e400"), Text(b"-1e400"), Text(b"1e308"), Text(b"1e-400"), Text(b"-0"), Text(b"1E2"), Text(b"9" * 400),
    Text(b"9" * 4300), Text(b"9" * 4301), Text(b"NaN"), Text(b"Infinity"), Text(b"01"), Text(b"0." + b"3" * 400),
    "", " ", "\t\n", ".", "..", "0", "-1", "1e3", "true", "\u0661", "1_000", "9" * 30, "none", "%00", "a/b", "a b",
    "\x00", "a\x00b", "\x01", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "e\u0301", "\U0001f600", "\u00e9" * 300,
    "\uffff", "x" * 255, "x" * 256, "x" * 300, "x" * 5000, "x" * 70000, "\"'\\", "'; drop table runs; --", "{}", "null",
    Text(b'"\\ud800"'), Text(b'"\\udc00\\ud800"'), Text(b'"a\\ud83d"'), Text(b'"\xed\xa0\x80"'), Text(b'"\xff"'),
    Text(b'"\xc0\x80"'), Text(b'"\\u00"'), Text(b'"\\x"'), Text(b'"a\nb"'), Text(b'"\\\\u0000"'), Text(b'"\\u0000"'),
    {}, [], [[]], [{}], {"": 1}, {"": ""}, {"\x00": 1}, {"a": "\x00"}, {"a": {"b": {"c": "\x00"}}}, ["\x00"], [None],
    {"__proto__": 1}, {"type": "x"}, {"a.b": {"c": 1}}, {"x" * 300: 1}, {"$ref": "#"}, Members([("a", 1), ("a", "2")]),
    Members([("codec", "avro"), ("codec", "json"), ("blob", "AA=="), ("blob", 1)]), {"codec": "avro"}, {"blob": "AAA="},
    {"codec": "avro", "blob": ""}, {"codec": "avro", "blob": "AAA="}, {"codec": "avro", "blob": "!"},
    {"codec": "avro", "blob": "AP///////////wEC"}, {"codec": "avro", "blob": None}, {"codec": "avro", "blob": "AAIxAg=="},
    {"codec": "json", "blob": "[1"}, {"codec": "json", "blob": "[" * 600}, {"codec": "json", "blob": "\x00"},
    {"codec": "json", "blob": "[" * 500 + "]" * 500}, {"codec": "x" * 300, "blob": "x"}, {"codec": 1, "blob": 1},
    {"codec": "workflow-serializer-y", "blob": "x"}, {"codec": "avro", "external_storage": {"provider": "s3", "key": "k"}},
    {"external_storage": {}}, {"codec": "avro", "blob": "Aw" + "A" * 400 + "=="}, {"codec": "avro", "blob": "AQ=="},
    list(range(2000)), ["x"] * 1001, [""] * 50, Text(b"[" + b",".join([b"{}"] * 3000) + b"]"),
    {f"k{n}": n for n in range(1500)},
    "2026-01-01T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:60Z", 1e18, 253402300800, 10**15,
]  # fmt: skip

_WIDE: list[Callable[[random.Random], Any]] = [
    lambda rng: _nested(rng.choice(_DEPTHS)),
    lambda rng: _nested(rng.choice(_DEPTHS), b'{"a":', b"}"),
    lambda rng: _nested(rng.choice(_DEPTHS) // 2, b'[{"a":', b"}]"),
    lambda rng: _nested(rng.choice(_DEPTHS), core=b'"\\u0000"'),
    lambda rng: rng.randint(-(2 ** rng.randint(1, 200)), 2 ** rng.randint(1, 200)),
    lambda rng: "".join(chr(rng.choice([rng.randint(0, 127), rng.randint(0, 0xD7FF)])) for _ in range(rng.randint(1, 40))),
    lambda rng: "x" * rng.choice([64, 65, 127, 128, 129, 255, 256, 257, 280, 281, 1000, 1001, 2048, 2049, 40961]),
]

_SEGMENTS = [
    ".", "..", "%2e", "%2e%2e", "%00", "a%00b", "%2f", "a%2Fb", "%252f", "%ff", "%ed%a0%80", "%c0%80", "%f0%9f%98%80", "%e9",
    "\xe9", "x" * 255, "x" * 300, "x" * 5000, "%f0%9f%98%80" * 100, "", "%20", "+", ";a=b", "%", "%zz", "%0d%0ax:y", "%7f",
    "%01", "~", "a:b", "{workflow_id}", "none", "NONE", "'", "%22", "%5c", "\\", "a,b", "*", "@", "$", "%u0041", "01" * 13,
    "runs", "debug", "\xff\xfe", "a%0Ab", "%3f", "%23",
]  # fmt: skip

_QUERY_NAMES = [
    "status", "page_size", "workflow_type", "query", "next_page_token", "task_queue", "wait_new_event", "namespace",
    "include_last_event_payload", "limit", "", "a",
]  # fmt: skip
_QUERY_VALUES = [
    "", "0", "-1", "1", "200", "201", "1000", "1001", "9" * 30, "1.5", "abc", "%00", "a%00b", "%ff", "%ed%a0%80", "true",
    "maybe", "running", "%F0%9F%98%80", "x" * 300, "x" * 4000, "%", "%25", "%5f", "_", "'", "%22", "\xe9", "bm9uZQ==", "AAAA",
    "eyJhIjoxfQ", "MTAwMDAwMDAwMDAwMDAwMDAwMDAwMA==", "LTE=", "null", "[]", "+", "%2B", "a=b=c", "default", "nowhere",
]  # fmt: skip

_HEADERS: list[tuple[str, str]] = [
    *((name, version) for name in (CONTROL_FIELD, WORKER_FIELD)
      for version in ("", "0", "1", "1.0", "1.2", "1.20", "2", "2.0", " 2 ", "3", "\xb2", "x", "1.1.1", "9" * 300, "-1")),
    *(("Content-Type", kind) for kind in (
        "", "text/plain", "application/json; charset=utf-16", "application/vnd.a+json", "multipart/form-data; boundary=a",
        "application/x-www-form-urlencoded", "application/jsonx", "JSON", "application/json;", "\xff", "*/*")),
    *(("Content-Encoding", kind) for kind in ("gzip", "identity", "deflate", "br", "", "gzip, gzip", "\xe9")),
    *(("Accept-Encoding", kind) for kind in (
        "gzip", "br", "*", "*;q=0", "identity;q=0", "gzip;q=0, deflate", "gzip;q=x", "deflate;q=0.5", "x" * 300, ",,,", ";",
        "\xff")),
    *(("X-Namespace", name) for name in (
        "", " ", "nowhere", "DEFAULT", "soak-a", ".", "..", "x" * 300, "\xe9", "\xff", "a b", "default,default", "%00", "\t")),
    *(("Authorization", text) for text in (
        "", "Bearer", "Bearer ", "bearer soak-admin", "Bearer  soak-admin", "Bearer soak-admin x", "Basic c29hazpzb2Fr",
        "Bearer wrong", "Bearer \xff", "Bearer " + "x" * 3000, "soak-admin",
        *(f"Bearer {token}" for token in TOKENS.values()))),
    *(("Connection", text) for text in ("close", "keep-alive", "Keep-Alive, close", "x", "", "TE, close", "close, upgrade")),
    ("X-Request-Id", "x" * 300), ("X-Request-Id", ""), ("X-Request-Id", "r1"), ("X-Request-Id", "\xff\xfe"),
    ("Accept", "text/html"), ("Range", "bytes=0-1"), ("If-None-Match", "*"), ("X-HTTP-Method-Override", "DELETE"),
    ("Cookie", "a=b"), ("Forwarded", "for=x"), ("X-Forwarded-For", "1.2.3.4, x"), ("User-Agent", "python-httpx/0.28"),
    ("User-Agent", "\xff"), ("TE", "trailers"), ("Origin", "http://x"), ("X-Workflow-Caller-Type", "admin"), ("A" * 300, "b"),
    ("X-Long", "x" * 7000), ("X-Longer", "x" * 70000), ("Keep-Alive", "timeout=0"), ("Host", "other"), ("X@y", "1"),
    ("Bad name", "1"), ("X-Folded", "a\r\n b"), ("X-Cr", "a\rb"), ("X-Nul", "a\x00b"), ("Content-Length", "0"),
    ("Content-Length", "-1"), ("Content-Length", "+5"), ("Content-Length", "abc"), ("Content-Length", "9" * 30),
    ("Content-Length", "5, 5"), ("Transfer-Encoding", "gzip"), ("Transfer-Encoding", "chunked"),
    ("Transfer-Encoding", "chunked, chunked"), ("Transfer-Encoding", "identity"), ("Transfer-Encoding", "xchunked"),
]  # fmt: skip

_OFFERS = [
    [("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", "AAEAAEAAAAIAAAABAAMAAABk")],
    [
        ("Connection", "keep-alive, Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "a"),
        ("Sec-WebSocket-Version", "13"),
    ],
    [("Connection", "Upgrade"), ("Upgrade", "TLS/1.0")],
    [("Upgrade", "h2c")],
]

_METHODS = [
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "PURGE",
    "FOO",
    "get",
    "",
]

FRAMINGS = [
    "chunked", "chunked", "trailers", "extensions", "pieces", "pieces", "singly", "pipelined", "expect", "expect odd", "cut",
    "cut", "abort", "half closed", "short length", "long length", "no length", "both framings", "bad chunk", "garbage behind",
    "oversize", "bare newlines",
]  # fmt: skip

Mutation = Callable[[Request, random.Random], str]


def strange(rng: random.Random) -> Any:
    """A value that few expect."""
    return rng.choice(_WIDE)(rng) if rng.random() < 0.3 else rng.choice(_STRANGE)


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Every (container, key) within a value."""
    for key, item in list(value.items() if isinstance(value, dict) else enumerate(value)):
        found.append((value, key))
        if isinstance(item, dict) or type(item) is list:
            _places(item, found)
    return found


def _in_body(request: Request, rng: random.Random) -> str:
    if not isinstance(request.body, dict):
        return _bytes(request, rng)
    request.body = copy.deepcopy(request.body)
    places = _places(request.body, [])
    if not places or rng.random() < 0.08:
        name = rng.choice(["input", "request_id", "reason", "namespace", "wait_policy", "x", "", "\x00", "memo", "commands"])
        request.body[name] = strange(rng)
        return f"extra field {name!r}"
    # Half of the time a field of the request itself: there are many places inside long values.
    container, key = rng.choice(places if rng.random() < 0.5 else [place for place in places if place[0] is request.body])
    act = rng.random()
    if act < 0.12:
        del container[key]
        return f"without {key!r}"
    if act < 0.2:
        other, name = rng.choice(places)
        try:
            container[key] = copy.deepcopy(other[name])
        except (KeyError, IndexError):
            return "unchanged"
        return f"{key!r} as {name!r}"
    if act < 0.25:
        container[key] = [container[key]]
        return f"{key!r} in a list"
    if act < 0.3 and container is request.body:
        request.body = _repeated(request.body, key, strange(rng))
        return f"{key!r} twice"
    container[key] = strange(rng)
    return f"{key!r} strange"


def _repeated(body: dict[str, Any], key: str, value: Any) -> Any:
    return Members([*body.items(), (key, value)])


def _bytes(request: Request, rng: random.Random) -> str:
    data = request.data
    at = rng.randrange(len(data) + 1)
    kinds = {
        "cut": data[:at],
        "flipped": data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :],
        "inserted": data[:at] + rng.choice([b"\x00", b"}", b'"', b"\\", b",", b"\xff", b"/**/", b"\xef\xbb\xbf"]) + data[at:],
        "behind": data + rng.choice([b"}", b"x", b"\x00", b" \n", b"{}"]),
        "else": rng.choice([b"", b" ", b"null", b"[]", b"{}", b'"x"', b"1", b"NaN", b"\x00", b"{", b"[" * 600,
                            b"\xef\xbb\xbf{}",
                            b"[" * 100_000, b"{" * 3000, b'{"a":' * 3000 + b"1" + b"}" * 3000, b"[1]" * 2, b"a=b&c=d"]),
        "utf-16": data.decode("utf-8", "replace").encode("utf-16"),
    }  # fmt: skip
    name = rng.choice(sorted(kinds))
    request.body = kinds[name]
    return f"bytes {name}"


def _param(request: Request, rng: random.Random) -> str:
    if not request.params:
        request.path = "/api" + request.route.template + rng.choice(["/", "//", "/.", "/..", "/x", "%00", "%2f", ";x", "/%ff"])
        return "path end"
    name = rng.choice(sorted(request.params))
    request.params[name] = rng.choice(_SEGMENTS)
    return f"{name} strange"


def _path(request: Request, rng: random.Random) -> str:
    whole = request.target.partition("?")[0]
    request.path = rng.choice(
        ["/", "*", "//api/health", "/api", "/api/", "/API/health", "/api/../api/health", "http://localhost" + whole, "",
         "http://", "/api/worker", "/api/worker/", "/api/x%00", whole + "#a", whole.replace("/api", "/api/api"), "x" * 20,
         whole.upper(), whole + "?" * 9, "/api/workflows/" + "a/" * 2000, "/" + "x" * 9000, "/metrics", "/api/schedules"]
    )  # fmt: skip
    return "path"


def _query(request: Request, rng: random.Random) -> str:
    pairs = [f"{rng.choice(_QUERY_NAMES)}={rng.choice(_QUERY_VALUES)}" for _ in range(rng.choice([1, 1, 1, 2, 5, 300]))]
    request.query = rng.choice(["&", "&", "&", "&&", ";"]).join([*filter(None, [request.query]), *pairs])
    return "query"


def _header(request: Request, rng: random.Random) -> str:
    act = rng.random() if request.fields else 1.0
    at = rng.randrange(len(request.fields) or 1)
    name, value = request.fields[at] if request.fields else ("", "")
    if act < 0.15:
        del request.fields[at]
        return f"without {name}"
    if act < 0.3:
        request.fields.append((rng.choice([name, name.lower(), name.upper()]), rng.choice([value, value + "x", ""])))
        return f"{name} twice"
    if act < 0.34:
        request.fields += [(f"X-{number}", "y") for number in range(rng.choice([50, 500, 3000]))]
        return "many fields"
    name, value = rng.choice(_HEADERS)
    if rng.random() < 0.8:
        request.fields = [field for field in request.fields if field[0].lower() != name.lower()]
    request.fields.append((name, value))
    return f"{name}: {value[:20]!r}"


def _method(request: Request, rng: random.Random) -> str:
    request.method = rng.choice(_METHODS)
    return f"method {request.method}"


def _version(request: Request, rng: random.Random) -> str:
    request.version = rng.choice(
        ["HTTP/1.0", "HTTP/1.0", "HTTP/0.9", "HTTP/2.0", "HTTP/1.2", "HTTP/9.9", "http/1.1", "RTSP/1.0", ""]
    )
    return request.version or "no version"


def _offer(request: Request, rng: random.Random) -> str:
    request.fields += rng.choice(_OFFERS)
    return "offer"


def _framing(request: Request, rng: random.Random) -> str:
    request.framing = rng.choice(FRAMINGS)
    return request.framing


_MUTATIONS: list[tuple[Mutation, int]] = [
    (_in_body, 46), (_bytes, 7), (_param, 12), (_path, 2), (_query, 7), (_header, 12), (_method, 4), (_version, 1), (_offer, 2),
    (_framing, 9),
]  # fmt: skip


def mutate(request: Request, rng: random.Random) -> Request:
    """The request with one, two or three things wrong with it; what they are is noted in `mutations`."""
    kinds = rng.choices([kind for kind, _ in _MUTATIONS], [weight for _, weight in _MUTATIONS], k=rng.choice([1, 1, 1, 2, 3]))
    for drawn in kinds:
        kind = rng.choice([_param, _query, _header]) if drawn is _in_body and request.body is None else drawn
        if kind is _bytes and request.body is None:
            request.body = {"a": 1}
        request.mutations.append(kind(request, rng))
    return request
