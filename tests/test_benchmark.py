"""The benchmark beside diffusers, on tiny networks: that it runs and compares like with like. Nothing is timed here."""

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).parent / "benchmarks/compare_diffusers.py"


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
