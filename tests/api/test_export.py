"""Exports over plain HTTP: extreme numbers, signatures, who may, what is not there (control-plane 6.2, operations 9)."""

from __future__ import annotations

import socket
from typing import Any

from durable_workflow.history_bundle_verify import verify_bundle_json

from tests.api.driver import Http
from tests.support.server import ServerProcess
from tests.support.services import TestServices

KEY = "a key, ключ"


async def export(http: Http, workflow_id: str, run_id: str, status: int = 200) -> str:
    response = await http.client.get(f"/api/workflows/{workflow_id}/runs/{run_id}/history/export")
    assert response.status_code == status, response.text
    return response.text


async def test_numbers_of_any_size_pass_the_verifier(http: Http) -> None:
    await http.register()
    memo = '{"huge": 1e400, "low": -1E+999, "long": ' + "9" * 1000 + ', "one": 1.0, "small": 1e-7, "name": "\\u00e9\\u007f"}'
    text = f'{{"workflow_type": "order", "task_queue": "{http.queue}", "workflow_id": "numbers", "memo": {memo}}}'
    response = await http.client.post("/api/workflows", content=text, headers={"Content-Type": "application/json"})
    assert response.status_code == 201, response.text
    await http.complete(await http.poll(), {"type": "complete_workflow", "result": "done"})
    exported = await export(http, "numbers", response.json()["run_id"])
    report = verify_bundle_json(exported)
    assert report["status"] == "ok", report["findings"]
    assert '"huge":1e400' in exported and '"low":-1E+999' in exported and "Infinity" not in exported


async def test_a_memo_as_deep_as_it_may_be(http: Http) -> None:
    await http.register()
    deep = "[" * 500 + "1e999" + "]" * 500
    text = f'{{"workflow_type": "order", "task_queue": "{http.queue}", "workflow_id": "deep", "memo": {{"deep": {deep}}}}}'
    response = await http.client.post("/api/workflows", content=text, headers={"Content-Type": "application/json"})
    assert response.status_code == 201, response.text
    assert f'"memo":{{"deep":{deep}}}' in await export(http, "deep", response.json()["run_id"])


async def test_what_is_not_there(http: Http) -> None:
    await http.register()
    run_id = (await http.start(workflow_id="there"))["run_id"]
    for path, headers in (
        (f"/workflows/elsewhere/runs/{run_id}/history/export", {}),
        ("/workflows/there/runs/01none/history/export", {}),
        (f"/workflows/there/runs/{run_id}/history/export", {"X-Namespace": "other"}),
    ):
        body = await http.call("GET", path, 404, **headers)
        assert body["reason"] in ("run_not_found", "namespace_not_found") and "control_plane" not in body
    response = await http.client.post(f"/api/workflows/there/runs/{run_id}/history/export")
    assert response.status_code == 405 and response.headers["allow"] == "GET, HEAD"
    response = await http.client.head(f"/api/workflows/there/runs/{run_id}/history/export")
    assert response.status_code == 200 and response.content == b""
    assert verify_bundle_json(await export(http, "there", run_id))["status"] == "ok", "the connection is as good as before"


async def test_a_client_of_http_1_0_gets_it_whole(http: Http, server: ServerProcess) -> None:
    await http.register()
    run_id = await http.closed("whole")
    host, port = server.url.removeprefix("http://").split(":")
    head = f"GET /api/workflows/whole/runs/{run_id}/history/export HTTP/1.0\r\nX-Durable-Workflow-Control-Plane-Version: 2\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(f"{head}Authorization: Bearer {server.token}\r\n\r\n".encode())
        answer = b""
        while piece := connection.recv(65536):
            answer += piece
    top, _, body = answer.partition(b"\r\n\r\n")
    assert f"content-length: {len(body)}".encode() in top and verify_bundle_json(body.decode())["status"] == "ok"


async def test_signatures(services: TestServices, tmp_path: Any) -> None:
    node = ServerProcess(
        services.deployment(),
        tmp_path,
        env={"DW_V2_HISTORY_EXPORT_SIGNING_KEY": f"  {KEY} ", "DW_V2_HISTORY_EXPORT_SIGNING_KEY_ID": "k-7"},
    )
    try:
        node.start()
        async with node.client() as client:
            http = Http(client)
            await http.register()
            exported = await export(http, "signed", await http.closed("signed"))
    finally:
        node.stop()
    assert KEY not in exported
    report = verify_bundle_json(exported, KEY)
    assert report["status"] == "ok" and report["integrity"]["signature_verified"] is True
    assert report["integrity"]["key_id"] == "k-7"
    assert verify_bundle_json(exported, "another")["status"] == "failed"
    assert verify_bundle_json(exported.replace("signed", "forged"), KEY)["status"] == "failed"
