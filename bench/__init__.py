"""The benchmark: how fast and how cheap the server runs workflows, with every result and event order verified.

`python -m bench` starts embedded services and nodes, runs the workloads of `bench.workloads` from a load generator in a process
of its own (`bench.load`), reads the CPU of each process group from /proc and prints the numbers beside their targets.
"""
