"""The benchmark beside diffusers, on tiny networks: that it runs and compares like with like. Nothing is timed here."""

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

BENCHMARK = Path(__file__).parent / "benchmarks/compare_diffusers.py"


ROWS = ["stage_c", "stage_b", "stage_a", "picture"]


def _run(report: Path, *options: str) -> dict[str, Any]:
    common = ["--tiny", "--size=256", "--rounds=1", "--busy", f"--json={report}"]
    done = subprocess.run([sys.executable, BENCHMARK, *common, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Other programs use" in done.stdout
    return json.loads(report.read_text(encoding="utf-8"))


@pytest.mark.long
def test_both_sides_do_the_same_work(tmp_path):
    content = _run(tmp_path / "report.json", "--dtype=fp32", "--rows", *ROWS)
    for name in ROWS:
        row = content["rows"][name]
        assert row["difference"] < 1e-4, name
        assert row["ours"]["best"] > 0 and row["diffusers"]["best"] > 0 and row["flops"] > 0


@pytest.mark.long
def test_int8_is_compared_with_this_project_too(tmp_path):
    content = _run(tmp_path / "report.json", "--dtype=int8", "--waits", "sleep", "spin", "--rows", "stage_b")
    for row in (content["rows"]["stage_b"], content["threads that wait keep their core busy"]["stage_b"]):
        assert all(row[side]["best"] > 0 for side in ("ours", "plain", "diffusers"))


@pytest.mark.long
def test_the_table_of_a_graphics_card_on_a_processor(tmp_path):
    content = _run(tmp_path / "report.json", "--dtype=fp32", "--whole", "--rows", "stage_c")
    for told in ("compiled", "batch 8", "batch 8, compiled"):
        assert content[told]["stage_c"]["ours"]["best"] > 0


def test_a_busy_machine_is_refused(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARK.parent))
    benchmark = importlib.import_module("compare_diffusers")
    monkeypatch.setattr(benchmark, "others_share", lambda: 0.4)
    with pytest.raises(SystemExit, match=r"Other programs use 40% .* Expected less than 10%"):
        benchmark._refuse_if_busy(False)
    benchmark._refuse_if_busy(True)


def test_the_counter_knows_the_products_that_we_use(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARK.parent))
    counter = importlib.import_module("measuring").counter
    a, b, c = torch.ones(2, 3), torch.ones(3, 5), torch.ones(2, 5)
    for work in (lambda: torch.addmm(c, a, b), lambda: c.addmm_(a, b), lambda: torch.addmm(c, a, b, out=c)):
        with counter() as counted:
            work()
        assert counted.get_total_flops() == 2 * 2 * 3 * 5
