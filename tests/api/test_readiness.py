"""Health, readiness and provenance, line by line (configuration-and-security 6.5, 8.1, 8.2)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.http.services import Services
from api.settings import Settings
from node.config import Config
from node.settings import api_settings, provenance
from store.connections.pool import Database
from tests.api.conftest import services_for, serving
from tests.support.defaults import make_auth, make_settings

CHECKS = ["database", "migrations", "default_namespace", "cache", "auth"]
TOKENS = make_settings(auth=make_auth(tokens={"worker": "w", "operator": "o", "admin": "a"}))


@asynccontextmanager
async def asked(services: Services) -> AsyncIterator[httpx.AsyncClient]:
    async with serving(create_app(services)) as url, httpx.AsyncClient(base_url=url, timeout=30) as client:
        yield client


def auth_of(**changes: Any) -> Settings:
    return make_settings(auth=make_auth(**changes))


async def test_readiness_of_the_driver(db: Database) -> None:
    for settings, status, driver in (
        (auth_of(driver="none"), "ok", "none"),
        (auth_of(legacy_token="x"), "ok", "token"),
        (auth_of(tokens={"worker": "x"}), "ok", "token"),
        (auth_of(), "missing", "token"),
        (auth_of(legacy_token="x", backward_compatible=False), "missing", "token"),
        (auth_of(legacy_signature_key="x"), "missing", "token"),
        (auth_of(driver="signature", signature_keys={"admin": "x"}), "ok", "signature"),
        (auth_of(driver="signature", legacy_token="x"), "missing", "signature"),
        (auth_of(driver="ldap", legacy_token="x"), "invalid", "ldap"),
        (auth_of(driver="Token", legacy_token="x"), "invalid", "Token"),
    ):
        async with asked(services_for(db, settings)) as client:
            response = await client.get("/api/ready")
            check = response.json()["checks"]["auth"]
            assert (check["status"], check["driver"]) == (status, driver)
            assert ("remediation" in check) is (status != "ok")
            assert response.status_code == (200 if status == "ok" else 503)


async def test_a_node_that_drains_says_so(db: Database) -> None:
    services = services_for(db, TOKENS)
    async with asked(services) as client:
        ready = (await client.get("/api/ready")).json()
        assert (ready["status"], list(ready["checks"])) == ("ready", CHECKS)
        services.draining = True
        response = await client.get("/api/ready")
        assert (response.status_code, response.json()["status"]) == (503, "not_ready")
        assert response.json()["checks"]["lifecycle"] == {"status": "draining"}
        assert (await client.get("/api/health")).status_code == 200
        head = await client.head("/api/ready")
        assert (head.status_code, head.content) == (503, b"")


async def test_every_check_is_there_and_made_for_itself_without_a_database(services: Any) -> None:
    """A database that is not there: no text repeats how it is reached."""
    dsn = "postgresql://planted-user:planted-password@127.0.0.1:1/planted"
    away = Database(dsn)
    parts = services_for(away, TOKENS)
    async with asked(parts) as client:
        begun = time.monotonic()
        health, ready = await asyncio.gather(client.get("/api/health"), client.get("/api/ready"))
        assert time.monotonic() - begun < 10  # two seconds, on a machine that does nothing else
        assert (health.status_code, health.json()["status"]) == (503, "degraded")
        assert health.json()["checks"] == {"database": "unavailable"}
        checks = ready.json()["checks"]
        assert (ready.status_code, list(checks)) == (503, CHECKS)
        assert [checks[name]["status"] for name in CHECKS] == ["unavailable"] * 3 + ["ok", "ok"]
        assert all(checks[name]["message"] for name in CHECKS[:3])
        assert "namespace" not in checks["default_namespace"]
        assert "planted" not in health.text + ready.text


async def test_a_coordination_store_that_fails_is_named(db: Database) -> None:
    parts = services_for(db, TOKENS)

    async def fails() -> str | None:
        return "NATS is not connected."

    for probe in (fails, None):
        parts.cache_probe = probe
        async with asked(parts) as client:
            response = await client.get("/api/ready")
            check = response.json()["checks"]["cache"]
            assert (response.status_code, check["status"], check["store"]) == (503, "unavailable", "nats")
            assert check["message"]


def test_a_private_store_is_called_embedded() -> None:
    config = Config.read({}, host_name="h")
    assert api_settings(config).cache_store == "nats"
    object.__setattr__(config.nats, "embedded", True)
    assert api_settings(config).cache_store == "embedded"


PROVENANCE = {"source": "git.example/server", "ref": "v1", "commit": "abc"}


async def test_provenance_is_for_administrators(db: Database) -> None:
    for settings, seen_by in (
        (make_settings(auth=TOKENS.auth, package_provenance=PROVENANCE), {"a"}),
        (make_settings(auth=TOKENS.auth, package_provenance=None), set[str]()),
    ):
        async with asked(services_for(db, settings)) as client:
            for token in ("w", "o", "a"):
                info = (await client.get("/api/cluster/info", headers={"Authorization": f"Bearer {token}"})).json()
                assert info.get("package_provenance") == (PROVENANCE if token in seen_by else None)
                assert ("package_provenance" in info) is (token in seen_by)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("git.example/server\n\n  v1 \nabc\nmore\n", PROVENANCE),
        ("git.example/server\nv1\n", None),
        ("", None),
        (None, None),
    ],
)
def test_provenance_is_the_first_three_lines_of_its_file(tmp_path: Path, text: str | None, expected: Any) -> None:
    file = tmp_path / "provenance"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    shown = {"DW_PACKAGE_PROVENANCE_PATH": str(file), "DW_EXPOSE_PACKAGE_PROVENANCE": "1"}
    config = Config.read(shown, host_name="h")
    assert provenance(config) == api_settings(config).package_provenance == expected
    hidden = Config.read({**shown, "DW_EXPOSE_PACKAGE_PROVENANCE": "0"}, host_name="h")
    assert api_settings(hidden).package_provenance is None
    assert provenance(Config.read({"DW_PACKAGE_PROVENANCE_PATH": str(tmp_path)}, host_name="h")) is None
