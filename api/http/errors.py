"""Errors an endpoint or a pipeline stage answers with. The pipeline gives them the envelope of the request's plane.

What is wrong with a request, or with what it names, is raised as ApiError wherever it is found. What an actor refuses is a
value (`actors.run.replies.Refused`): endpoints of both planes turn it into a Response and return that.
"""

from __future__ import annotations

from typing import Any

from api.http.response import Headers, Response


class ApiError(Exception):
    """An error answer: status, machine `reason`, human text and further body fields (control-plane 1.7, worker-protocol 2.4).

    `text_key` is the body key of the text: `message`, or `error` for business errors of the worker plane.
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        text_key: str = "message",
        headers: Headers = (),
        **fields: Any,
    ) -> None:
        super().__init__(reason)
        self.status = status
        self.headers = headers
        self.body: dict[str, Any] = {text_key: message, "reason": reason, **fields}

    @property
    def response(self) -> Response:
        """The error as an answer."""
        return Response(self.status, self.body, self.headers)


class ValidationFailed(ApiError):
    """422 `validation_failed` with the same texts under `errors` and `validation_errors`."""

    def __init__(self, errors: dict[str, list[str]]) -> None:
        first = next((texts[0] for texts in errors.values() if texts), "The request is invalid.")
        super().__init__(422, "validation_failed", first, errors=errors, validation_errors=errors)


def refusal(status: int, reason: str, message: str, **fields: Any) -> Response:
    """What an actor refused, as the control plane answers it (control-plane 1.7)."""
    return Response(status, {"message": message, "reason": reason, **fields})


def worker_error(status: int, reason: str, error: str, **fields: Any) -> ApiError:
    """A business error of the worker plane, whose text stands under `error` (worker-protocol 2.4)."""
    return ApiError(status, reason, error, text_key="error", **fields)


def method_not_allowed(allow: str) -> ApiError:
    """405 with the methods the path has."""
    headers = ((b"allow", allow.encode()),)
    return ApiError(405, "method_not_allowed", "The method is not allowed for this path.", headers=headers)


def unavailable(message: str = "The service is temporarily unavailable; the request can be repeated.") -> ApiError:
    """503 with a retry hint: the store or the run's node cannot be reached just now; the request may be repeated."""
    return ApiError(503, "service_unavailable", message, headers=((b"retry-after", b"1"),))
