"""Sharing the processor: the environment before torch loads, and the limits of a container."""

import os
import subprocess
import sys

import pytest

from wuerstchen_nodes.headless.threads import POLICY, share_processor, usable_cores


def test_waiting_threads_sleep_unless_the_user_says_otherwise():
    environment = {"GOMP_SPINCOUNT": "100"}
    share_processor(environment=environment)
    assert {name: environment[name] for name in POLICY} == {**POLICY, "GOMP_SPINCOUNT": "100"}
    share_processor(3, environment)
    assert environment["OMP_NUM_THREADS"] == "3"


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "50000 100000"}, 1),
        ({"cpu.max": "max 100000"}, None),
        ({"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ({"cpu.max": "oops"}, None),
        ({}, None),
    ],
)
def test_limits_of_a_container(tmp_path, monkeypatch, files, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores(tmp_path) == (cores or 8)


def test_fewer_cores_are_fewer_threads(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    environment: dict[str, str] = {}
    share_processor(environment=environment)
    assert environment["OMP_NUM_THREADS"] == "1"


def test_a_command_sets_it_before_torch_loads(tmp_path):
    code = """
import os, sys
from wuerstchen_nodes.headless.cli import main
main(["info", "--json"])
import torch
print(os.environ["GOMP_SPINCOUNT"], torch.get_num_threads())
"""
    environment = {key: value for key, value in os.environ.items() if key not in (*POLICY, "OMP_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    spin, threads = done.stdout.splitlines()[-1].split()
    assert spin == "0" and 1 <= int(threads) <= usable_cores()
