"""The drivers `token` and `signature`, rule by rule (configuration-and-security 2.2 to 2.5)."""

from __future__ import annotations

import ast
import hashlib
import hmac
import inspect
import time
from typing import Any

import pytest

from api.http import auth
from api.http.auth import Authenticator, authenticator
from api.http.errors import ApiError
from api.settings import AuthSettings
from durable_workflow_server.auth import Principal
from tests.support.defaults import make_auth

BODY = b'{"workflow_type": "order", "input": "\xc3\xa9"}'
ROLES = {"worker": "w-secret", "operator": "o-secret", "admin": "a-secret"}


def configured(driver: str, roles: dict[str, str], legacy: str, backward_compatible: bool = True) -> AuthSettings:
    """Settings of a driver; the credentials of the other one are set, too, and count for nothing."""
    others = {"worker": "other-w", "operator": "other-o", "admin": "other-a"}
    if driver == "token":
        mine: dict[str, Any] = {"tokens": roles, "legacy_token": legacy, "signature_keys": others, "legacy_signature_key": "x"}
    else:
        mine = {"signature_keys": roles, "legacy_signature_key": legacy, "tokens": others, "legacy_token": "x"}
    return make_auth(driver=driver, backward_compatible=backward_compatible, **mine)


def shown(driver: str, credential: str, body: bytes = BODY) -> dict[bytes, bytes]:
    """The header fields of a caller with a credential."""
    if driver == "token":
        return {b"authorization": b"Bearer " + credential.encode()}
    return {b"x-signature": hmac.new(credential.encode(), body, hashlib.sha256).hexdigest().encode()}


def decided(by: Any, headers: dict[bytes, bytes], body: bytes = BODY) -> Any:
    """The principal, or status and text of the refusal."""
    try:
        return by.authenticate(headers, body)
    except ApiError as error:
        return error.status, error.body["reason"], error.body["message"]


# Roles configured, legacy configured, compatible, what the caller shows, and what comes of it (2.4, row by row).
RULES: list[tuple[dict[str, str], str, bool, str, Any]] = [
    ({}, "", True, "anything", 500),
    ({}, "", False, "anything", 500),
    ({}, "legacy", True, "legacy", "full"),
    ({}, "legacy", True, "other", 401),
    ({}, "legacy", False, "legacy", 500),
    ({}, "legacy", False, "other", 500),
    *(
        (ROLES, legacy, compatible, ROLES[role], role)
        for role in ROLES
        for legacy in ("", "legacy")
        for compatible in (True, False)
    ),
    (ROLES, "", True, "other", 401),
    (ROLES, "", True, "legacy", 401),
    (ROLES, "legacy", True, "legacy", "admin only"),
    ({"worker": "w-secret"}, "legacy", True, "legacy", "admin only"),
    ({"operator": "o-secret"}, "legacy", True, "legacy", "admin only"),
    ({"worker": "w-secret"}, "legacy", False, "legacy", 401),
    ({"worker": ""}, "legacy", True, "legacy", "full"),
    ({"worker": "same", "operator": "same", "admin": "same"}, "same", True, "same", "worker"),
    ({"admin": "same"}, "same", True, "same", "admin"),
]


@pytest.mark.parametrize("driver", ["token", "signature"])
@pytest.mark.parametrize(("roles", "legacy", "compatible", "credential", "expected"), RULES)
def test_whom_a_credential_makes(
    driver: str, roles: dict[str, str], legacy: str, compatible: bool, credential: str, expected: Any
) -> None:
    by = authenticator(configured(driver, roles, legacy, compatible))
    found = decided(by, shown(driver, credential))
    if expected in ("full", "admin only"):
        full = expected == "full"
        assert found == Principal(
            f"legacy-{driver}", ["admin"], driver, claims={"legacy_credential": True}, legacy_full_access=full
        )
    elif isinstance(expected, str):
        assert found == Principal(f"role:{expected}", [expected], driver)
    else:
        assert found[0] == expected
    ready = by.readiness()
    assert ready["status"] == ("missing" if expected == 500 else "ok")
    assert ready["driver"] == driver


@pytest.mark.parametrize("driver", ["token", "signature"])
def test_missing_and_wrong_credentials_and_none_configured(driver: str) -> None:
    by = authenticator(configured(driver, ROLES, ""))
    missing, wrong = decided(by, {}), decided(by, shown(driver, "wrong"))
    assert (missing[:2], wrong[:2]) == ((401, "unauthorized"), (401, "unauthorized"))
    assert ("X-Signature" in missing[2]) if driver == "signature" else (missing == wrong)
    none = decided(authenticator(configured(driver, {}, "")), {})
    name = "DW_AUTH_TOKEN" if driver == "token" else "DW_SIGNATURE_KEY"
    assert none[:2] == (500, "server_error") and f"{name} is not configured" in none[2]
    for headers in ({b"authorization": b""}, {b"authorization": b"Bearer "}, {b"x-signature": b" "}):
        assert decided(by, headers)[0] == 401


SIGNED = shown("signature", "k-\u00e9")[b"x-signature"]
SIGNATURES: list[tuple[bytes, bytes, bool]] = [
    (SIGNED, BODY, True),
    (b" " + SIGNED + b" ", BODY, True),
    (SIGNED.upper(), BODY, False),
    (b"sha256=" + SIGNED, BODY, False),
    (SIGNED[:-1], BODY, False),
    (SIGNED + b"0", BODY, False),
    (SIGNED, BODY.replace(b" ", b""), False),
    (SIGNED, b"", False),
    (shown("signature", "k-\u00e9", b"")[b"x-signature"], b"", True),
    (shown("signature", "k-\u00e9", b"")[b"x-signature"], BODY, False),
    (b"\xff" * 64, BODY, False),
]


@pytest.mark.parametrize(("signature", "body", "taken"), SIGNATURES)
def test_a_signature_is_that_of_the_bytes_sent(signature: bytes, body: bytes, taken: bool) -> None:
    """The key is UTF-8 text; lower-case hexadecimal digits without a prefix."""
    by = authenticator(configured("signature", {"operator": "k-\u00e9"}, ""))
    found = decided(by, {b"x-signature": signature}, body)
    assert (found == Principal("role:operator", ["operator"], "signature")) is taken


@pytest.mark.parametrize("length", [1, 63, 64, 65, 200])
def test_keys_of_any_length_sign(length: int) -> None:
    key = "\u20ac" + "k" * (length - 1)
    by = authenticator(configured("signature", {"worker": key}, ""))
    for body in (b"", BODY, b"x" * 10_000):
        assert decided(by, shown("signature", key, body), body) == Principal("role:worker", ["worker"], "signature")


def test_credentials_are_compared_in_constant_time() -> None:
    """No comparison by `==` or `in` of anything that was configured or sent, in the code of the drivers."""
    tree = ast.parse(inspect.getsource(auth))
    compared = [node for node in ast.walk(tree) if isinstance(node, ast.Compare)]
    operands = {ast.unparse(each) for node in compared for each in (node.left, *node.comparators)}
    assert operands <= {
        "settings.driver", "'none'", "'token'", "'signature'", "settings.provider", "None", "found", "start", "0",
        "len(key)", "64",
    }  # fmt: skip
    loops = [node for node in ast.walk(tree) if isinstance(node, ast.For)]
    assert len(loops) == 2 and not [
        node for loop in loops for node in ast.walk(loop) if isinstance(node, ast.Break | ast.Return)
    ]


def cost(by: Authenticator, headers: dict[bytes, bytes], body: bytes) -> float:
    """Microseconds of processor time of one request, when nobody else is in the way."""
    found = []
    for _ in range(30):
        begun = time.thread_time()
        for _ in range(100):
            by.authenticate(headers, body)
        found.append((time.thread_time() - begun) / 100)
    return min(found) * 1e6


def test_a_signature_costs_little_more_than_a_token() -> None:
    """At most 60 microseconds more for a usual request, with all four keys configured."""
    body = b'{"input": "' + b"x" * 2048 + b'"}'
    found: dict[str, float] = {}
    for _ in range(10):  # a machine with other work to do makes everything dearer
        for driver in ("token", "signature"):
            by: Any = authenticator(configured(driver, ROLES, "legacy"))
            found[driver] = cost(by, shown(driver, "legacy", body), body)
        if found["signature"] - found["token"] < 60:
            break
    assert found["signature"] - found["token"] < 60
