"""Payload blobs, percentiles, /proc readings, report rows and profiles: the small parts the numbers rest on."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.http import Address
from bench.payloads import decode, encode
from bench.procfs import machine_cpu, usage
from bench.profiling import hottest
from bench.report import table
from bench.rows import at_least, at_most, plain
from bench.stats import percentile, summarize
from bench.wire import Wire

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@pytest.mark.parametrize(
    ("value", "blob"),
    [
        (None, "AAhudWxsAg=="),
        ([], "AARbXQI="),
        ("sent", "AAwic2VudCIC"),
        ({"ok": 1}, "ABB7Im9rIjoxfQI="),
        (["order-7", {"rush": True}], "ADJbIm9yZGVyLTciLHsicnVzaCI6dHJ1ZX1dAg=="),
    ],
)
def test_blobs_are_those_of_the_contract(value: object, blob: str) -> None:
    assert encode(value) == blob
    assert decode(blob) == value


@given(JSON_VALUES)
def test_blobs_round_trip(value: object) -> None:
    assert decode(encode(value)) == value


@pytest.mark.parametrize("blob", ["", "AAw=", "AQhudWxsAg==", "AAhudWxsAw==", "AApudWxsAg==", "not base64", "AICAgIAC"])
def test_what_is_no_blob_is_refused(blob: str) -> None:
    with pytest.raises(ValueError):
        decode(blob)


def test_percentiles_are_nearest_rank() -> None:
    hundred = [float(number) for number in range(1, 101)]
    assert [percentile(hundred, percent) for percent in (0, 1, 50, 99, 100)] == [1, 1, 50, 99, 100]
    assert percentile([7.0], 99) == 7
    assert summarize([0.003, 0.001, 0.002]) == {"count": 3, "p50": 2.0, "p99": 3.0, "max": 3.0}
    assert summarize([]) == {"count": 0, "p50": None, "p99": None, "max": None}
    with pytest.raises(ValueError):
        percentile([], 50)


def test_cpu_of_a_process_tree_counts_live_and_ended_children() -> None:
    """A parent that waited for one busy child and has another alive; this test process is not part of it."""
    burn = "import time\nend = time.process_time() + {}\nwhile time.process_time() < end: pass\n"
    script = (
        "import subprocess, sys, time\n"
        f"subprocess.run([sys.executable, '-c', {burn.format(0.4)!r}])\n"
        f"child = subprocess.Popen([sys.executable, '-c', {burn.format(0.4) + 'print(1, flush=True); time.sleep(60)'!r}],"
        " stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print('done', flush=True); time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, process_group=0) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        used = usage([parent.pid])
        os.killpg(parent.pid, 9)
    assert used.processes == 2
    assert 0.75 <= used.cpu_seconds <= 2.5
    assert used.rss_mib > 5
    assert usage([parent.pid]).processes == 0


def test_machine_cpu_grows() -> None:
    busy, total = machine_cpu()
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    later_busy, later_total = machine_cpu()
    assert later_busy > busy
    assert later_total - total >= later_busy - busy - 0.02  # the kernel counts in ticks


def test_rows_judge_their_targets() -> None:
    assert at_most("x", 5.0, "ms", 5.0).met is True
    assert at_most("x", 5.01, "ms", 5.0).met is False
    assert at_least("x", 250.0, "/s", 250.0).met is True
    assert at_least("x", 249.9, "/s", 250.0).met is False
    assert at_least("x", None, "/s", 1.0).met is None
    text = table("title", [at_most("slow", 9.0, "ms", 5), plain("free", None, "")])
    assert "MISSED" in text.splitlines()[1]
    assert "MISSED" not in text.splitlines()[2]
    assert "not measured" in table("title", [at_most("unknown", None, "ms", 5)])


def test_the_hottest_functions_of_a_profile() -> None:
    lines = hottest(["run (a.py:1);work (a.py:5) 30", "run (a.py:1);work (a.py:7) 20", "run (a.py:2) 50", ""]).splitlines()
    assert [line.split() for line in lines[1:]] == [["50.0%", "50.0%", "work", "(a.py)"], ["50.0%", "100.0%", "run", "(a.py)"]]


def test_a_poll_has_the_length_it_announces() -> None:
    head, tail = Wire(Address("h", 1), "t").poll_template("activity", "worker-1", "queue-1")
    announced, _, body = (head + b"0" * 32 + tail).partition(b"\r\n\r\n")
    assert int(announced.rpartition(b" ")[2]) == len(body)
    assert b'"poll_request_id":"activity-poll-' + b"0" * 32 in body
