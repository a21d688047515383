"""Search attributes over HTTP: definitions, typed values, queries and counts (control-plane 5.3 and 8, operations 5)."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from tests.api.conftest import CONTROL, Api
from tests.api.driver import Http
from tests.support.defaults import make_auth, make_rules, make_settings

SYSTEM = {
    "WorkflowType": "keyword",
    "WorkflowId": "keyword",
    "RunId": "keyword",
    "Status": "keyword",
    "TaskQueue": "keyword",
    "BuildId": "keyword",
    "StartTime": "datetime",
    "CloseTime": "datetime",
}
TYPES = ("keyword", "text", "int", "double", "bool", "datetime", "keyword_list")
PATH = "/search-attributes"


async def lab(http: Http, name: str) -> dict[str, str]:
    """A namespace of the test's own, as a header."""
    await http.post("/namespaces", 201, name=name)
    return {"X-Namespace": name}


async def found(http: Http, query: str, **headers: str) -> list[str]:
    body = await http.call("GET", f"/workflows?page_size=200&query={quote(query)}", 200, **headers)
    counted = await http.call("GET", f"/workflows/count?query={quote(query)}", 200, **headers)
    assert counted == {"count": body["workflow_count"]}
    return [item["workflow_id"] for item in body["workflows"]]


async def test_definitions(http: Http) -> None:
    own = await lab(http, "defining")
    assert await http.call("GET", PATH, 200, **own) == {"system_attributes": SYSTEM, "custom_attributes": {}}
    for kind in TYPES:
        body = await http.call("POST", PATH, 201, {"name": f"A_{kind}", "type": kind}, **own)
        assert body == {"name": f"A_{kind}", "type": kind, "outcome": "created"}
    custom = (await http.call("GET", PATH, 200, **own))["custom_attributes"]
    assert custom == {f"A_{kind}": kind for kind in TYPES} and list(custom) == sorted(custom)
    assert (await http.get(PATH))["custom_attributes"] == {}, "definitions are per namespace"
    again = await http.call("POST", PATH, 409, {"name": "A_int", "type": "double"}, **own)
    assert (again["reason"], again["name"], again["type"]) == ("attribute_already_exists", "A_int", "int")
    for name in SYSTEM:
        reserved = await http.call("POST", PATH, 409, {"name": name, "type": "keyword"}, **own)
        assert (reserved["reason"], reserved["name"]) == ("name_reserved", name)
        assert (await http.call("DELETE", f"{PATH}/{name}", 409, **own))["reason"] == "system_attribute"
    assert await http.call("DELETE", f"{PATH}/A_int", 200, **own) == {"name": "A_int", "outcome": "deleted"}
    assert (await http.call("DELETE", f"{PATH}/A_int", 404, **own))["reason"] == "attribute_not_found"
    for name in ("none", "a%2Fb", "%20", "x" * 300, "%00"):
        assert (await http.call("DELETE", f"{PATH}/{name}", 404, **own))["reason"] in ("attribute_not_found", "not_found")
    custom = (await http.call("GET", PATH, 200, **own))["custom_attributes"]
    assert custom == {f"A_{kind}": kind for kind in TYPES if kind != "int"}


BAD_NAMES: list[Any] = ["1a", "a-b", "a.b", "_a", "a" * 129, "ä", "a\0", 7, [], {}, True]
BAD_TYPES: list[Any] = ["Int", "float", "string", "", 7, [], {}, True, "int\0"]
BAD: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["name", "type"]),
    ({"name": None, "type": None}, ["name", "type"]),
    ({"name": " ", "type": " "}, ["name", "type"]),
    *(({"name": name, "type": "int"}, ["name"]) for name in BAD_NAMES),
    *(({"name": "bad", "type": kind}, ["type"]) for kind in BAD_TYPES),
]


@pytest.mark.parametrize(("body", "fields"), BAD)
async def test_bad_definitions_are_refused_and_not_stored(http: Http, body: dict[str, Any], fields: list[str]) -> None:
    before = await http.get(PATH)
    refused = await http.call("POST", PATH, 422, body)
    assert (refused["reason"], list(refused["errors"])) == ("validation_failed", fields)
    assert await http.get(PATH) == before


async def test_a_namespace_defines_so_many(api: Api) -> None:
    settings = make_settings(auth=make_auth(driver="none"), rules=make_rules(max_search_attributes=2))
    async with api(settings, headers=CONTROL) as client:
        for name, status in (("A", 201), ("B", 201), ("C", 422), ("B", 409), ("C", 422)):
            answer = await client.post(f"/api{PATH}", json={"name": name, "type": "int"})
            assert answer.status_code == status
            if status == 422:
                assert (answer.json()["reason"], answer.json()["limit"]) == ("search_attribute_limit_reached", 2)
        assert (await client.delete(f"/api{PATH}/A")).status_code == 200
        assert (await client.post(f"/api{PATH}", json={"name": "C", "type": "int"})).status_code == 201


async def test_roles_versions_and_methods(api: Api) -> None:
    tokens = {"worker": "w", "operator": "o", "admin": "a"}
    settings = make_settings(auth=make_auth(tokens=tokens, backward_compatible=False))
    routes = [("GET", PATH), ("POST", PATH), ("DELETE", f"{PATH}/x"), ("GET", "/workflows/count"), ("HEAD", PATH)]
    async with api(settings) as client:
        for method, path in routes:
            send = client.build_request(method, f"/api{path}", json={} if method == "POST" else None)
            for token, version, expected in (
                ("w", True, 403),
                ("o", True, None),
                ("a", True, None),
                ("o", False, 400),
                ("x", True, 401),
            ):
                send.headers.update({"Authorization": f"Bearer {token}"})
                send.headers.pop("X-Durable-Workflow-Control-Plane-Version", None)
                if version:
                    send.headers.update(CONTROL)
                status = (await client.send(send)).status_code
                assert status == expected or (expected is None and status in (200, 404, 422)), (method, path, token)
        headers = {**CONTROL, "Authorization": "Bearer o"}
        for method, path, allow in (
            ("PUT", PATH, "GET, HEAD, POST"),
            ("DELETE", PATH, "GET, HEAD, POST"),
            ("GET", f"{PATH}/x", "DELETE"),
            ("POST", f"{PATH}/x", "DELETE"),
            ("POST", "/workflows/count", "GET, HEAD"),
        ):
            answer = await client.request(method, f"/api{path}", headers=headers)
            assert (answer.status_code, answer.headers["allow"]) == (405, allow), (method, path)
        unknown = await client.get(f"/api{PATH}", headers={**headers, "X-Namespace": "nowhere"})
        assert (unknown.status_code, unknown.json()["reason"]) == (404, "namespace_not_found")


async def test_values_are_stored_in_their_defined_types(http: Http) -> None:
    own = await lab(http, "typing")
    for kind in ("int", "double", "bool", "datetime"):
        await http.call("POST", PATH, 201, {"name": f"A_{kind}", "type": kind}, **own)
    sent = {
        "A_int": "42",
        "A_double": "2.5",
        "A_bool": "yes",
        "A_datetime": "2026-05-01T02:00:00+02:00",
        "Other": "42",
        "Gone": None,
    }
    kept = {"A_int": 42, "A_double": 2.5, "A_bool": True, "A_datetime": "2026-05-01T00:00:00.000000Z", "Other": "42"}
    misfits = {"A_int": "many", "A_bool": "perhaps", "A_datetime": ["soon"]}
    for name, attributes, expected in (("typed-1", sent, kept), ("typed-2", misfits, misfits)):
        begin = {"workflow_id": name, "workflow_type": "t", "task_queue": "typing", "search_attributes": attributes}
        await http.call("POST", "/workflows", 201, begin, **own)
        assert (await http.call("GET", f"/workflows/{name}", 200, **own))["search_attributes"] == expected
    assert await found(http, "A_int = '42'", **own) == await found(http, "A_int >= 41.5", **own) == ["typed-1"]
    assert await found(http, "A_datetime = '2026-05-01'", **own) == ["typed-1"]
    assert await found(http, "A_datetime < '2026-05-01T00:00:01+00:00'", **own) == ["typed-1"]
    assert await found(http, "A_bool = on", **own) == [], "no value: a part of a name"
    assert await found(http, "A_bool = 'on'", **own) == ["typed-1"]
    assert await found(http, "Other = '42'", **own) == ["typed-1"]
    assert await found(http, "Other = 42", **own) == []
    assert await found(http, "Gone IS NULL", **own) == ["typed-2", "typed-1"]
    # An upsert, as soon as the task is complete; without a definition by the type the command names.
    await http.call(
        "POST", "/worker/register", 201, {"worker_id": "w-typing", "task_queue": "typing", "runtime": "python"}, **own
    )
    poll = {"worker_id": "w-typing", "task_queue": "typing"}
    task = (await http.call("POST", "/worker/workflow-tasks/poll", 200, poll, **own))["task"]
    command: dict[str, Any] = {
        "type": "upsert_search_attributes",
        "attributes": {"A_int": "7", "A_bool": "", "Named": "8.5", "Plain": "8.5"},
        "attribute_types": {"Named": "float", "A_int": "string"},
    }
    body: dict[str, Any] = {
        "lease_owner": task["lease_owner"],
        "workflow_task_attempt": task["workflow_task_attempt"],
        "commands": [command],
    }
    await http.call("POST", f"/worker/workflow-tasks/{task['task_id']}/complete", 200, body, **own)
    changed = task["workflow_id"]
    before = kept if changed == "typed-1" else misfits
    expected = {name: value for name, value in {**before, "A_int": 7, "Named": 8.5, "Plain": "8.5"}.items() if name != "A_bool"}
    assert (await http.call("GET", f"/workflows/{changed}", 200, **own))["search_attributes"] == expected
    assert await found(http, "A_int = 7 AND Named > 8 AND Plain = '8.5' AND A_bool IS NULL", **own) == [changed]
    # The definition goes, the values stay.
    await http.call("DELETE", f"{PATH}/A_int", 200, **own)
    assert await found(http, "A_int = 7", **own) == [changed]


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("Customer > true", "at character 10: Customer is of the type bool, which has no order."),
        ("StartTime = 'soon'", "at character 13: StartTime is compared with a date-time."),
        ("Status > 'running'", "at character 8: Status has no order."),
        ("(" * 40 + "a = 1" + ")" * 40, "at character 33: more than 32 levels of parentheses."),
    ],
)
async def test_a_query_that_no_run_can_answer_is_refused(http: Http, query: str, text: str) -> None:
    for path in ("/workflows", "/workflows/count"):
        body = await http.call("GET", f"{path}?query={quote(query)}", 422)
        assert (body["reason"], list(body["errors"])) == ("validation_failed", ["query"])
        assert body["errors"]["query"] == [f"The query field is not valid {text}"]


async def test_counts(http: Http) -> None:
    for number in range(3):
        await http.start(workflow_id=f"counted-{number}", workflow_type="counted", search_attributes={"Number": number})
    await http.post("/workflows/counted-0/terminate", 200)
    for filters, expected in (
        ("workflow_type=counted", 3),
        ("workflow_type=counted&status=running", 2),
        ("workflow_type=counted&status=failed", 1),
        ("workflow_type=counted&status=completed", 0),
        ("workflow_type=counted&query=Number%20%3E%200", 2),
        ("query=COUNTED-", 3),
        ("workflow_type=counted&query=Status%20%3D%20%22terminated%22", 1),
        ("workflow_type=none", 0),
    ):
        assert await http.get(f"/workflows/count?{filters}") == {"count": expected}, filters
    for query in ("status=cancelled", "status=x", "query=%00", "workflow_type=%00"):
        body = await http.get(f"/workflows/count?{query}", 422)
        assert list(body["errors"]) == [query.split("=")[0]]


async def test_pages_stay_while_runs_come_and_go(http: Http) -> None:
    ids = [f"going-{number}" for number in range(9)]
    for name in ids:
        await http.start(workflow_id=name, workflow_type="going", search_attributes={"Batch": "one"})
    path = "/workflows?page_size=2&query=" + quote('Batch = "one"')
    seen: list[str] = []
    token: str | None = ""
    number = 9
    while token is not None:
        page = await http.get(f"{path}&next_page_token={token}")
        seen += [item["workflow_id"] for item in page["workflows"]]
        token = page["next_page_token"]
        # one that was shown closes, one that was not closes, one comes
        await http.post(f"/workflows/{seen[-1]}/terminate", 200)
        if ids[0] not in seen[:-2]:
            await http.start(workflow_id=f"going-{number}", workflow_type="going", search_attributes={"Batch": "one"})
            number += 1
    assert seen == list(reversed(ids))
