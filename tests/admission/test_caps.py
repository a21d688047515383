"""Which caps hold for a queue: precedence per field, and where each comes from (contract operations 2.3)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.queue.admission import scopes
from actors.queue.admission.caps import OVERRIDES, AdmissionRules, KindCaps
from actors.queue.poll import QueueName
from node.config import Config
from node.settings import admission_rules
from tests.core.harness import search

KINDS = "workflow", "activity"
FIELDS = {
    "queue_leases": ["max_active_leases", "max_active_leases_per_queue"],
    "namespace_leases": ["max_active_leases_per_namespace"],
    "queue_dispatches": ["max_dispatches_per_minute"],
    "namespace_dispatches": ["max_dispatches_per_minute_per_namespace"],
}
SETTINGS = {name: aliases[-1] for name, aliases in FIELDS.items()}

values = st.one_of(
    st.none(), st.integers(-3, 100), st.booleans(), st.sampled_from(["7", "0", "-2", "many", "", 2.0, 2.5, [], {}])
)


@st.composite
def part(draw: st.DrawFn) -> Any:
    fields = {draw(st.sampled_from(aliases)): draw(values) for aliases in FIELDS.values() if draw(st.booleans())}
    return draw(st.sampled_from([fields, fields, fields, "nonsense", None]))


entries = st.one_of(st.fixed_dictionaries({}, optional={f"{kind}_tasks": part() for kind in KINDS}), st.just("nonsense"))
keys = st.sampled_from(["acme:billing", "acme:*", "billing", "*", "other:billing", "acme:other", "other"])
variables = st.builds(KindCaps, *[st.one_of(st.none(), st.integers(1, 100))] * 4)


def meant(value: Any) -> int | None:
    """A cap as an entry says it."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        value = int(value) if value.isdigit() else 0
    return int(value) if isinstance(value, int | float) and value == int(value) and value > 0 else None


@search(150)
@given(st.dictionaries(keys, entries), variables, variables, st.sampled_from(KINDS))
def test_precedence_is_per_field(overrides: dict[str, Any], workflow: KindCaps, activity: KindCaps, kind: Any) -> None:
    rules = AdmissionRules(workflow, activity, overrides)
    told = rules.told_of("acme", "billing", kind)
    for name, aliases in FIELDS.items():
        said = [
            fields[alias]
            for key in ("acme:billing", "acme:*", "billing", "*")
            if isinstance(overrides.get(key), dict) and isinstance(fields := overrides[key].get(f"{kind}_tasks"), dict)
            for alias in aliases
            if alias in fields
        ]
        cap = getattr(told, name)
        if said and said[0] is not None:
            assert (cap.most, cap.source) == (meant(said[0]), OVERRIDES)
        else:
            expected = getattr(workflow if kind == "workflow" else activity, name)
            assert (cap.most, cap.source) == (expected, f"server.admission.{kind}_tasks.{SETTINGS[name]}")
    assert (rules.caps_of("acme", "billing", kind) is not None) == any(cap.most for cap in told.each())


def test_the_example_of_the_contract() -> None:
    text = """{"acme:billing": {"workflow_tasks": {"max_active_leases": 20},
                  "activity_tasks": {"max_dispatches_per_minute": 60, "dispatch_budget_group": "psp",
                                     "max_dispatches_per_minute_per_budget_group": 100}}}"""
    rules = admission_rules(Config.read({"DW_TASK_QUEUE_ADMISSION_OVERRIDES": text}))
    workflow, activity = rules.told_of("acme", "billing", "workflow"), rules.told_of("acme", "billing", "activity")
    assert (workflow.queue_leases.most, workflow.source) == (20, OVERRIDES)
    assert (activity.queue_dispatches.most, activity.group, activity.group_dispatches.most) == (60, "psp", 100)
    assert activity.queue_leases.most is None
    assert rules.caps_of("acme", "other", "activity") is None
    name = QueueName("acme", "billing", "activity")
    assert scopes.of_dispatches(name, activity, 7) == [
        ("d000000007.q.activity.acme/billing", 60),
        ("d000000007.g.activity.acme/psp", 100),
    ]


@pytest.mark.parametrize("value", ["", "nonsense", "0", "-5", "null"])
def test_a_variable_that_is_no_positive_number_is_no_cap(value: str) -> None:
    rules = admission_rules(Config.read({"DW_WORKFLOW_TASK_MAX_ACTIVE_LEASES_PER_QUEUE": value}))
    assert rules.none
    assert rules.told_of("a", "b", "workflow").source == "server.admission.workflow_tasks.max_active_leases_per_queue"


@pytest.mark.parametrize("text", ["nonsense", "[]", '"text"', "7", ""])
def test_overrides_that_are_no_object_are_ignored(text: str) -> None:
    assert admission_rules(Config.read({"DW_TASK_QUEUE_ADMISSION_OVERRIDES": text})).none


def test_a_group_counts_only_where_it_is_named() -> None:
    fields = {"max_dispatches_per_minute_per_budget_group": 5}
    assert AdmissionRules(overrides={"*": {"activity_tasks": fields}}).caps_of("a", "b", "activity") is None
    named = {"a:b": {"activity_tasks": {"budget_group": "psp"}}, "*": {"activity_tasks": fields}}
    caps = AdmissionRules(overrides=named).caps_of("a", "b", "activity")
    assert caps is not None and (caps.group, caps.group_dispatches.most) == ("psp", 5)


def test_sources_are_named_once_and_in_order() -> None:
    overrides = {"b": {"workflow_tasks": {"max_active_leases": 3, "max_dispatches_per_minute_per_namespace": 9}}}
    caps = AdmissionRules(KindCaps(queue_leases=1, namespace_leases=2, queue_dispatches=3), None, overrides).told_of(
        "a", "b", "workflow"
    )
    start = "server.admission.workflow_tasks."
    assert caps.source == ";".join([OVERRIDES, f"{start}max_active_leases_per_namespace", f"{start}max_dispatches_per_minute"])


def test_no_two_scopes_share_a_name() -> None:
    caps = KindCaps(1, 1, 1, 1)
    rules = AdmissionRules(
        caps,
        caps,
        {"*": {f"{kind}_tasks": {"budget_group": "q", "max_dispatches_per_minute_per_budget_group": 1} for kind in KINDS}},
    )
    names = []
    for namespace in ("a", "b"):
        for kind in ("workflow", "activity"):
            name = QueueName(namespace, "q", kind)
            told = rules.told_of(namespace, "q", "workflow" if kind == "workflow" else "activity")
            leases = [scope for scope, _ in scopes.of_leases(name, told)]
            dispatches = [scope for minute in (1, 2) for scope, _ in scopes.of_dispatches(name, told, minute)]
            first, end = scopes.LEASES
            assert all(first <= scope < end for scope in leases)
            low, high = scopes.past(2)
            assert [low <= scope < high for scope in dispatches] == [True] * 3 + [False] * 3
            names += leases + dispatches
    assert len(set(names)) == len(names) == 4 * 8
    assert json.dumps(names)
