"""Overhead of the executor for each node: a chain of 100 nodes that do nothing, validated and run anew.

    python tests/benchmarks/executor_overhead.py

Prints milliseconds a node: the median of several runs, without and with a cache on disk to ask.
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.workflows import node, toys
from wuerstchen_nodes import host as hosts
from wuerstchen_nodes.headless.execution.disk_cache import DiskCache
from wuerstchen_nodes.headless.execution.executor import Executor
from wuerstchen_nodes.headless.host import HeadlessHost
from wuerstchen_nodes.headless.workflow.validate import validate

NODES, RUNS = 100, 15


def chain(start: int) -> dict:
    prompt = {"0": node("Number", value=start)}
    prompt |= {f"{i}": node("Add", a=[f"{i - 1}", 0], b=["0", 0]) for i in range(1, NODES - 1)}
    return {**prompt, "end": node("Show", value=[f"{NODES - 2}", 0])}


def milliseconds_a_node(cache: DiskCache | None) -> float:
    times = []
    for run in range(RUNS):
        executor = Executor(toys(), cache)
        start = time.perf_counter()
        executor.run(validate(chain(run % 10), executor.catalog))
        times.append(1000 * (time.perf_counter() - start) / NODES)
    return statistics.median(times)


def main() -> None:
    hosts.install(HeadlessHost(device="cpu"))
    print(f"in memory: {milliseconds_a_node(None):.3f} ms a node")
    with tempfile.TemporaryDirectory() as folder:
        print(f"with a cache on disk: {milliseconds_a_node(DiskCache(folder)):.3f} ms a node")


if __name__ == "__main__":
    main()
