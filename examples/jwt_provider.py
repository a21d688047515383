"""A provider that lets callers in by JSON Web Tokens, verified by PyJWT.

    pip install pyjwt        # pyjwt[crypto] for keys of RSA, EC or Ed25519
    export PYTHONPATH=examples DW_AUTH_PROVIDER=jwt_provider:JwtProvider
    export JWT_KEY=... JWT_ALGORITHM=HS256 JWT_ISSUER=https://issuer.example JWT_AUDIENCE=workflows
    dw-server serve

`JWT_KEY` is the shared secret, or the issuer's public key as PEM. A token needs `exp` and `sub`; `roles` is a list of `worker`,
`operator` and `admin`; `namespaces`, if there, lists those it is for; `tenant` is kept with the commands the caller gives.
"""

import os
from collections.abc import Mapping
from typing import Any

import jwt

from durable_workflow_server.auth import ACTION, AuthError, AuthProvider, AuthRequest, Principal

KEPT_CLAIMS = ("iss", "namespaces")  # in the history of commands, so nothing secret and nothing long


class JwtProvider(AuthProvider):
    """One object of this class serves a node. What it does takes microseconds, so it may be done on the event loop."""

    def __init__(self) -> None:
        self._key = os.environ["JWT_KEY"].replace("\\n", "\n")
        # One algorithm, and not the token's choice.
        self._algorithm = os.environ.get("JWT_ALGORITHM", "HS256")
        self._issuer = os.environ["JWT_ISSUER"]
        self._audience = os.environ["JWT_AUDIENCE"]

    async def authenticate(self, request: AuthRequest) -> Principal:
        """The subject of the bearer token."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise AuthError.unauthenticated("A bearer token is needed.")
        try:
            claims = jwt.decode(
                token.strip(),
                self._key,
                algorithms=[self._algorithm],
                issuer=self._issuer,
                audience=self._audience,
                leeway=10,
                options={"require": ["exp", "sub"]},
            )
        except jwt.ExpiredSignatureError:
            raise AuthError.unauthenticated("The token has expired.") from None
        except jwt.InvalidTokenError:
            raise AuthError.unauthenticated("The token is not valid.") from None
        return Principal(
            subject=claims["sub"],
            roles=claims.get("roles", []),
            method="jwt",
            tenant=claims.get("tenant"),
            claims={name: claims[name] for name in KEPT_CLAIMS if name in claims},
        )

    async def authorize(self, principal: Principal, action: str, resource: Mapping[str, Any]) -> bool:
        """The role must be one of the route's, and the namespace one of the token's."""
        if action != ACTION:
            return False
        namespaces = principal.claims.get("namespaces")
        # Of routes that are about a namespace it is the named one that counts.
        names = {resource.get("requested_namespace"), resource.get("target_namespace", resource.get("requested_namespace"))}
        if namespaces is not None and not names <= set(namespaces):
            return False
        return any(role in resource["allowed_roles"] for role in principal.roles)
