"""Runs the GCS emulator with what the real service does and its clients need, and this one leaves out.

python -m tests.support.gcs_emulator PORT BUCKET
"""

from __future__ import annotations

import sys
from email.utils import formatdate
from typing import Any

from gcp_storage_emulator import server


class Handler(server.RequestHandler):  # type: ignore[misc]
    """Answers with ETag and Last-Modified, and deletes by the plain path as well."""

    path: str

    def do_DELETE(self) -> None:
        bucket, _, key = self.path[1:].partition("/")
        if bucket != "storage":
            self.path = f"/storage/v1/b/{bucket}/o/{key.replace('/', '%2F')}"
        super().do_DELETE()

    def send_response(self, *args: Any, **kwargs: Any) -> None:
        super().send_response(*args, **kwargs)
        self.send_header("ETag", '"0"')
        self.send_header("Last-Modified", formatdate(usegmt=True))


if __name__ == "__main__":
    server.RequestHandler = Handler
    server.create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket=sys.argv[2]).run()
