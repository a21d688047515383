"""A node as it is, but with room for a few runs in memory only: started in place of `node.cli`, with the same arguments."""

from __future__ import annotations

from node import wiring
from node.cli import main

CACHE_BYTES = 12_000

if __name__ == "__main__":
    wiring.RUN_CACHE_BYTES = CACHE_BYTES
    main()
