"""Times this project against diffusers: same weights, same inputs, in turn, in one process each.

    python tests/benchmarks/compare_diffusers.py [--rows stage_c stage_b ...] [--rounds 3] [--dtype bf16] [--device cpu]
        [--size 1024] [--batch 1] [--cpu-clock] [--compile] [--tiny] [--json FILE]
        [--plot FILE.png] [--sizes 512 1024 1536 2048] [--batches 1 2 4 8]

Random weights of the published shapes (4 GB in bf16; --tiny for a few thousand). A floor is the time that the matrix
products of our form take at this machine's best rate, or reading the weights once if that takes longer. Results differ
in fp32 by rounding; in bf16 by much more, since diffusers rounds the timestep as well.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from contenders import ROWS, Settings, save_networks
from measuring import SIDES, Row, compare, product_rate, reading_rate
from plotting import STEPS, plot
from wuerstchen_core import StageA, StageB, StageC

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
WEIGHTS = {"stage_c": StageC, "stage_b": StageB, "stage_a": StageA}
MIB = 1 << 20


def main() -> None:
    options = _options()
    settings = Settings(
        dtype=DTYPES[options.dtype],
        device=options.device,
        size=options.size,
        batch=options.batch,
        tiny=options.tiny,
        compile=options.compile,
        cpu_clock=options.cpu_clock,
    )
    flops, reading = product_rate(settings), reading_rate(settings)
    report: dict[str, Any] = {
        "machine": {
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "product_rate": flops,
            "reading_rate": reading,
        },
        "settings": {**asdict(settings), "dtype": options.dtype},
        "rows": {},
    }
    print(f"{options.dtype}, {settings.device}, {torch.get_num_threads()} threads, products {flops / 1e9:.0f} GFLOP/s, "
          f"reading {reading / 1e9:.1f} GB/s; best (median, spread) of {options.rounds}", flush=True)  # fmt: skip
    measured: dict[str, Row] = {}
    with tempfile.TemporaryDirectory(prefix="wuerstchen-benchmark-", dir=options.folder) as folder:
        settings = replace(settings, folder=folder)
        if {"load", "picture"} & set(options.rows):
            save_networks(settings)
        for name in options.rows:
            row = compare(name, settings, options.rounds)
            floor = _floor(name, row, settings, flops, reading)
            measured[name] = row
            report["rows"][name] = _entry(row, floor)
            print(_line(ROWS[name][0], row, floor), flush=True)
        if WEIGHTS.keys() <= measured.keys():
            report["whole_picture"] = _whole(measured)
        if options.plot:
            report["plot"] = plot(settings, Path(options.plot), options.sizes, options.batches)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _floor(name: str, row: Row, settings: Settings, flops: float, reading: float) -> float | None:
    if name not in WEIGHTS:
        return None
    with torch.device("meta"):
        weights = sum(each.numel() for each in WEIGHTS[name](settings.config(WEIGHTS[name])).parameters())
    return max(row.flops / flops, weights * settings.dtype.itemsize / reading)


def _entry(row: Row, floor: float | None) -> dict[str, Any]:
    times = {
        side: {
            "best": each.best,
            "median": each.median,
            "spread": each.spread,
            "seconds": each.seconds,
            "peak": each.peak,
        }
        for side, each in (("ours", row.ours), ("diffusers", row.diffusers))
    }
    return {**times, "ratio": row.ratio, "difference": row.difference, "flops": row.flops, "floor": floor}


def _line(label: str, row: Row, floor: float | None) -> str:
    columns = [f"{label:36}"]
    for side, times in (("ours", row.ours), ("diffusers", row.diffusers)):
        over = "" if floor is None else f", {times.best / floor:.2f} floors"
        columns.append(
            f"{side} {times.best:8.3f} s ({times.median:.3f}, {times.spread:.0%}{over}), {times.peak / MIB:5.0f} MiB"
        )
    columns.append(f"{row.ratio:.2f}x, results {row.difference:.1e} apart")
    return " | ".join(columns)


def _whole(measured: dict[str, Row]) -> dict[str, float]:
    """A picture of 29 + 12 steps, put together from what one of each takes."""
    whole = {side: sum(count * getattr(measured[name], side).best for name, count in STEPS.items()) for side in SIDES}
    ratio = whole["diffusers"] / whole["ours"]
    label = "29 + 12 steps and decode, summed"
    print(f"{label:36} | ours {whole['ours']:8.1f} s | diffusers {whole['diffusers']:8.1f} s | {ratio:.2f}x")
    return {**whole, "ratio": ratio}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Times this project against diffusers.")
    parser.add_argument("--rows", nargs="*", choices=ROWS, default=list(ROWS), metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--size", type=int, default=1024, help="side of the picture in pixels")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument(
        "--cpu-clock",
        action="store_true",
        help="take processor time: for a machine that others use as well, with OMP_NUM_THREADS=1",
    )
    parser.add_argument("--compile", action="store_true", help="torch.compile on both sides")
    parser.add_argument("--tiny", action="store_true", help="tiny networks: whether it runs, not how fast")
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--plot", metavar="FILE.png", help="also time a picture against size and batch (minutes)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 1536, 2048], help="of the plot")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8], help="of the plot")
    parser.add_argument("--folder", help="where the networks' files are put, 4 GB; a temporary folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
