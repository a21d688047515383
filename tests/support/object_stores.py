"""Object stores to test against: the disk, and emulators of S3, GCS and Azure as processes of their own."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import boto3

from node.embedded.process import free_port

BUCKET = "payloads"
_START_SECONDS = 60.0
# The account that every Azure emulator has.
_ACCOUNT = "devstoreaccount1"
_ACCOUNT_KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="


@dataclass(frozen=True)
class ObjectStore:
    """A store that runs: the driver's name, credentials of the server's profile, and members of a policy's `config`."""

    driver: str
    profile: dict[str, str]
    config: dict[str, str]
    url: str = ""

    def policy(self, prefix: str) -> dict[str, Any]:
        """A policy that puts payloads below a prefix."""
        return {"driver": self.driver, "config": {**self.config, "prefix": prefix}}

    def s3_client(self) -> Any:
        """A client of this store, which is S3."""
        return boto3.client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id="k", aws_secret_access_key="s"
        )


@contextlib.contextmanager
def _process(command: list[str], url: str, directory: Path, env: dict[str, str] | None = None) -> Iterator[None]:
    with (directory / "output").open("wb") as output:
        process = subprocess.Popen(
            command, cwd=directory, stdout=output, stderr=output, env={**os.environ, **(env or {})}, start_new_session=True
        )
        try:
            _wait(url, process, directory)
            yield
        finally:
            process.kill()
            process.wait()


def _wait(url: str, process: subprocess.Popen[bytes], directory: Path) -> None:
    host, port = url.removeprefix("http://").split(":")
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), timeout=1):
            return
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError((directory / "output").read_text())
        time.sleep(0.05)


@contextlib.contextmanager
def s3(directory: Path) -> Iterator[ObjectStore]:
    """moto's S3."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with _process(command, url, directory):
        profile = {
            "access_key_id": "k",
            "secret_access_key": "s",
            "region": "us-east-1",
            "endpoint": url,
            "virtual_hosted_style_request": "false",
        }
        store = ObjectStore("s3", profile, {"disk": "s3", "bucket": BUCKET}, url)
        store.s3_client().create_bucket(Bucket=BUCKET)
        yield store


@contextlib.contextmanager
def gcs(directory: Path) -> Iterator[ObjectStore]:
    """The GCS emulator."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "tests.support.gcs_emulator", str(port), BUCKET]
    with _process(command, url, directory, {"PYTHONPATH": str(Path(__file__).parents[2])}):
        key = f'{{"gcs_base_url": "{url}", "disable_oauth": true, "client_email": "", "private_key": "", "private_key_id": ""}}'
        yield ObjectStore("gcs", {"service_account_key": key, "allow_http": "true"}, {"disk": "gcs", "bucket": BUCKET}, url)


def azurite() -> str | None:
    """The Azure emulator, where it is installed (it comes by npm); DW_TEST_AZURITE names it elsewhere."""
    return os.environ.get("DW_TEST_AZURITE") or shutil.which("azurite-blob")


@contextlib.contextmanager
def azure(directory: Path) -> Iterator[ObjectStore]:
    """Azurite."""
    program = azurite()
    assert program is not None
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    command = [program, "--blobPort", str(port), "--location", str(directory), "--skipApiVersionCheck", "--silent"]
    with _process(command, url, directory):
        profile = {
            "account_name": _ACCOUNT,
            "account_key": _ACCOUNT_KEY,
            "endpoint": f"{url}/{_ACCOUNT}",
            "allow_http": "true",
        }
        _make_container(f"{url}/{_ACCOUNT}")
        yield ObjectStore("azure", profile, {"disk": "azure", "bucket": BUCKET}, url)


def _make_container(account_url: str) -> None:
    """Create the container, signed as the emulator demands."""
    import base64
    import hashlib
    import hmac
    from email.utils import formatdate

    date, version = formatdate(usegmt=True), "2021-08-06"
    text = "PUT" + "\n" * 12 + f"x-ms-date:{date}\nx-ms-version:{version}\n"
    text += f"/{_ACCOUNT}/{_ACCOUNT}/{BUCKET}\nrestype:container"
    mac = base64.b64encode(hmac.new(base64.b64decode(_ACCOUNT_KEY), text.encode(), hashlib.sha256).digest()).decode()
    headers = {"x-ms-date": date, "x-ms-version": version, "Authorization": f"SharedKey {_ACCOUNT}:{mac}"}
    request = Request(f"{account_url}/{BUCKET}?restype=container", method="PUT", headers=headers)
    with urlopen(request, timeout=30) as answer:
        assert answer.status == 201
