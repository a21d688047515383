"""Answers the HTTP server gives by itself, before or instead of the application."""

from __future__ import annotations

import http
import json


def status_line(status: int) -> bytes:
    """The status line of an answer."""
    try:
        phrase = http.HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode("ascii")


class Refusal:
    """Why a request is not served; the connection ends with its answer. `answer` is the whole of its bytes.

    It is no exception: one that is raised again and again would keep the frames, and so the connections, of every time.
    """

    def __init__(self, status: int, reason: str, message: str) -> None:
        self.text = f"{status} {message}"
        body = json.dumps({"message": message, "reason": reason}, separators=(",", ":")).encode("ascii")
        head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
        self.answer = status_line(status) + head + body


class Refused(Exception):
    """Raised where a request is refused while it is parsed."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.text)
        self.refusal = refusal


def malformed(message: str) -> Refusal:
    """400: what was sent is no HTTP request, or one that others could read differently."""
    return Refusal(400, "malformed_request", message)


TARGET_TOO_LONG = Refusal(414, "uri_too_long", "The request target is too long.")
HEAD_TOO_LARGE = Refusal(431, "header_fields_too_large", "The header fields of the request are too large.")
FRAMING_TOO_LARGE = Refusal(
    431, "header_fields_too_large", "The chunk extensions and trailer fields of the request are too large."
)
HEAD_TOO_SLOW = Refusal(408, "request_timeout", "The head of the request did not end in time.")
BODY_TOO_SLOW = Refusal(408, "request_timeout", "The body of the request did not end in time.")
NO_TUNNEL = Refusal(501, "not_implemented", "This server is no proxy.")
UNKNOWN_CODING = Refusal(501, "not_implemented", "The only transfer coding of this server is chunked.")
UNKNOWN_VERSION = Refusal(505, "http_version_not_supported", "This server speaks HTTP/1.1.")
NO_HOST = malformed("The request needs one Host field.")
TRAILING_CONNECTION = malformed("The connection is no matter of trailer fields.")
CHUNKED_OLD = malformed("HTTP/1.0 has no transfer codings.")
FAULT = Refusal(500, "server_error", "The server met an unexpected error.")
