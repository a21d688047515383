"""Who calls: the built-in drivers `none`, `token` and `signature` (configuration-and-security 2).

A provider in their place (section 4 there): `api.http.access.provider`.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Any, Protocol

from api.http.access.provider import ProviderAuth
from api.http.errors import ApiError
from api.settings import ROLES, AuthSettings
from durable_workflow_server.auth import Principal


class Authenticator(Protocol):
    """Turns a request into a principal, or raises ApiError 401 or 500; `readiness` is the `auth` check of /api/ready."""

    def authenticate(self, headers: dict[bytes, bytes], body: bytes) -> Principal: ...

    def readiness(self) -> dict[str, Any]: ...


ANONYMOUS = Principal("anonymous", ("admin",), "none", legacy_full_access=True)


def _misconfigured(text: str) -> ApiError:
    return ApiError(500, "server_error", text)


def _unauthorized(text: str) -> ApiError:
    return ApiError(401, "unauthorized", text)


class NoAuth:
    """Driver `none`: everybody may call everything."""

    def authenticate(self, headers: dict[bytes, bytes], body: bytes) -> Principal:
        return ANONYMOUS

    def readiness(self) -> dict[str, Any]:
        return {"status": "ok", "driver": "none"}


class UnknownDriver:
    """A driver value nobody knows: every request is answered 500."""

    def __init__(self, driver: str) -> None:
        self._driver = driver

    def authenticate(self, headers: dict[bytes, bytes], body: bytes) -> Principal:
        raise _misconfigured(f"Unknown auth driver [{self._driver}].")

    def readiness(self) -> dict[str, Any]:
        return {
            "status": "invalid",
            "driver": self._driver,
            "remediation": "Set DW_AUTH_DRIVER to none, token or signature.",
        }


class Credentials:
    """The credentials of one driver and what each of them opens (configuration-and-security 2.4).

    `candidates` stand in match order: worker, operator, admin, then the legacy one.
    """

    def __init__(self, method: str, by_role: dict[str, str], legacy: str, backward_compatible: bool) -> None:
        has_roles = any(by_role.get(role) for role in ROLES)
        self.candidates: list[tuple[bytes, Principal]] = [
            (by_role[role].encode("utf-8", "surrogateescape"), Principal(f"role:{role}", (role,), method))
            for role in ROLES
            if by_role.get(role)
        ]
        if legacy and backward_compatible:
            principal = Principal(
                f"legacy-{method}", ("admin",), method, legacy_full_access=not has_roles, claims={"legacy_credential": True}
            )
            self.candidates.append((legacy.encode("utf-8", "surrogateescape"), principal))

    @property
    def usable(self) -> bool:
        """Whether any request could succeed at all."""
        return bool(self.candidates)

    def readiness(self, driver: str, variable: str) -> dict[str, Any]:
        if self.usable:
            return {"status": "ok", "driver": driver}
        return {"status": "missing", "driver": driver, "remediation": f"Set {variable} or a role credential."}


class TokenAuth:
    """Driver `token`: `Authorization: Bearer <token>`."""

    def __init__(self, settings: AuthSettings) -> None:
        self._credentials = Credentials("token", settings.tokens, settings.legacy_token, settings.backward_compatible)
        # Digests are compared, so that timing does not tell how long a token is either.
        self._key = secrets.token_bytes(32)
        self._digests = [(self._digest(token), principal) for token, principal in self._credentials.candidates]

    def _digest(self, token: bytes) -> bytes:
        return hashlib.blake2b(token, digest_size=32, key=self._key).digest()

    def authenticate(self, headers: dict[bytes, bytes], body: bytes) -> Principal:
        if not self._credentials.usable:
            raise _misconfigured("DW_AUTH_TOKEN is not configured.")
        header = headers.get(b"authorization", b"")
        start = header.lower().rfind(b"bearer ")
        token = header[start + 7 :].split(b",", 1)[0].strip() if start >= 0 else b""
        digest = self._digest(token)
        found: Principal | None = None
        # Every candidate is compared, so that timing does not tell which role matched.
        for expected, principal in self._digests:
            if hmac.compare_digest(expected, digest) and found is None:
                found = principal
        if found is None:
            raise _unauthorized("The bearer token is missing or wrong.")
        return found

    def readiness(self) -> dict[str, Any]:
        return self._credentials.readiness("token", "DW_AUTH_TOKEN")


class _Signer:
    """HMAC-SHA256 (RFC 2104) with what depends on the key alone done once: a fifth of the time of `hmac.digest`."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes) -> None:
        if len(key) > 64:
            key = hashlib.sha256(key).digest()
        padded = key.ljust(64, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def sign(self, body: bytes) -> bytes:
        """The signature as lower-case hexadecimal digits."""
        inner, outer = self._inner.copy(), self._outer.copy()
        inner.update(body)
        outer.update(inner.digest())
        return outer.hexdigest().encode()


class SignatureAuth:
    """Driver `signature`: `X-Signature` holds the lower-case hex HMAC-SHA256 of the raw body."""

    def __init__(self, settings: AuthSettings) -> None:
        self._credentials = Credentials(
            "signature", settings.signature_keys, settings.legacy_signature_key, settings.backward_compatible
        )
        self._signers = [(_Signer(key), principal) for key, principal in self._credentials.candidates]

    def authenticate(self, headers: dict[bytes, bytes], body: bytes) -> Principal:
        if not self._credentials.usable:
            raise _misconfigured("DW_SIGNATURE_KEY is not configured.")
        signature = headers.get(b"x-signature", b"").strip()
        if not signature:
            raise _unauthorized("The X-Signature header is missing.")
        found: Principal | None = None
        for signer, principal in self._signers:
            if hmac.compare_digest(signer.sign(body), signature) and found is None:
                found = principal
        if found is None:
            raise _unauthorized("The request signature is wrong.")
        return found

    def readiness(self) -> dict[str, Any]:
        return self._credentials.readiness("signature", "DW_SIGNATURE_KEY")


def authenticator(settings: AuthSettings) -> Authenticator | ProviderAuth:
    """Who decides: the configured provider, else the configured driver."""
    if settings.provider is not None:
        return ProviderAuth(settings.provider, settings)
    if settings.driver == "none":
        return NoAuth()
    if settings.driver == "token":
        return TokenAuth(settings)
    if settings.driver == "signature":
        return SignatureAuth(settings)
    return UnknownDriver(settings.driver)
