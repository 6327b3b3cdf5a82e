"""The benchmark beside diffusers, on tiny networks: that it runs and compares like with like. Nothing is timed here."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARK = Path(__file__).parent / "benchmarks/compare_diffusers.py"


@pytest.mark.long
def test_both_sides_do_the_same_work(tmp_path):
    report = tmp_path / "report.json"
    rows = ["stage_c", "stage_b", "stage_a", "picture"]
    command = [sys.executable, BENCHMARK, "--tiny", "--dtype=fp32", "--size=256", "--rounds=1", f"--json={report}"]
    done = subprocess.run([*command, "--rows", *rows], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    content = json.loads(report.read_text(encoding="utf-8"))
    assert list(content["rows"]) == rows
    for name, row in content["rows"].items():
        assert row["difference"] < 1e-4, name
        assert row["ours"]["best"] > 0 and row["diffusers"]["best"] > 0 and row["flops"] > 0
    assert content["whole_picture"]["ours"] > 0


def test_the_counter_knows_the_products_that_we_use(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARK.parent))
    counter = importlib.import_module("measuring").counter
    a, b, c = torch.ones(2, 3), torch.ones(3, 5), torch.ones(2, 5)
    for work in (lambda: torch.addmm(c, a, b), lambda: c.addmm_(a, b), lambda: torch.addmm(c, a, b, out=c)):
        with counter() as counted:
            work()
        assert counted.get_total_flops() == 2 * 2 * 3 * 5
