"""The load generator: a process of its own that runs one workload against running nodes.

`python -m bench.load WORKLOAD` reads its `Options` as JSON from stdin. On stdout, one JSON object a line: `open` and
`close` at the borders of the measured window, then `result`.
"""

from __future__ import annotations

import gc
import sys

import msgspec
import uvloop

from bench.options import Options
from bench.stage import Stage, say
from bench.workloads import WORKLOADS


def main() -> int:
    """Run the workload named in argv[1]; exit code 1 if anything was wrong with any answer."""
    options = msgspec.json.decode(sys.stdin.buffer.read(), type=Options)
    workload = WORKLOADS[sys.argv[1]]
    stage = Stage(options)
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
    result = stage.result(**uvloop.run(workload.run(stage)))
    say("result", result=result)
    return 1 if result["failure_count"] else 0


if __name__ == "__main__":
    sys.exit(main())
