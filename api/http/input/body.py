"""Reading a request's body: size, media type, JSON (configuration-and-security 9.1, 9.2)."""

from __future__ import annotations

import msgspec

from api.http.errors import ApiError
from api.http.input import json_text
from api.http.input.json_text import Members, Sparse
from api.http.input.offload import LONG
from api.http.request import Receive

BODY_METHODS = frozenset({"POST", "PUT", "PATCH", "DELETE"})


_decode = json_text.decode


class Disconnected(Exception):
    """The client went away before its request was complete: there is nobody to answer."""


def _too_large(limit: int) -> ApiError:
    return ApiError(413, "payload_too_large", f"The request body exceeds the limit of {limit} bytes.", limit=limit)


async def read_body(headers: dict[bytes, bytes], receive: Receive, limit: int) -> bytes:
    """The whole body, at most `limit` bytes. Raises ApiError 413 above it, Disconnected when the client left."""
    declared = headers.get(b"content-length")
    if declared is not None and declared.isdigit() and int(declared) > limit:
        raise _too_large(limit)
    message = await receive()
    if message["type"] != "http.request":
        raise Disconnected
    body: bytes = message.get("body", b"")
    if message.get("more_body"):
        chunks = [body]
        size = len(body)
        while message.get("more_body"):
            if size > limit:
                break
            message = await receive()
            if message["type"] != "http.request":
                raise Disconnected
            chunk: bytes = message.get("body", b"")
            chunks.append(chunk)
            size += len(chunk)
        body = b"".join(chunks)
    if len(body) > limit:
        raise _too_large(limit)
    return body


def check_media_type(headers: dict[bytes, bytes]) -> None:
    """Raises ApiError 415 unless the body is declared as JSON."""
    value = headers.get(b"content-type", b"")
    if value == b"application/json":
        return
    media_type = value.split(b";", 1)[0].strip().lower()
    if media_type != b"application/json" and not media_type.endswith(b"+json"):
        raise ApiError(
            415,
            "unsupported_media_type",
            "The request body must be JSON.",
            accepted_content_types=["application/json", "application/*+json"],
        )


def parse_body(headers: dict[bytes, bytes], body: bytes) -> Members | Sparse:
    """The fields of a JSON body; no fields for `[]` and other values that are no object. Raises ApiError 400 when malformed.

    The values of a short body are read, those of a long one are texts (`api.http.input.json_text`).
    """
    encoding = headers.get(b"content-encoding", b"identity").strip().lower()
    if encoding not in (b"identity", b""):
        raise _malformed("Compressed request bodies are not supported.")
    try:
        if len(body) <= LONG:
            value = _decode(body)
            if body.count(b"[") + body.count(b"{") > json_text.MAX_DEPTH:
                json_text.check_depth(body)
            return value if isinstance(value, dict) else {}
    except msgspec.ValidationError:
        pass  # a number that no float can hold: its text may do
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, json_text.Malformed) as error:
        raise _malformed(str(error)) from None
    try:
        json_text.check(body)
    except json_text.Malformed as error:
        raise _malformed(str(error)) from None
    return json_text.members(body) if body.lstrip()[:1] == b"{" else {}


def _malformed(text: str) -> ApiError:
    return ApiError(400, "malformed_json", "The request body is not valid JSON.", json_error=text)
