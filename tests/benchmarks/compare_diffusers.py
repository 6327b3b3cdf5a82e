"""Times this project against diffusers: same weights, same inputs, in turn, in one process each.

    python tests/benchmarks/compare_diffusers.py [--rows stage_c stage_b ...] [--rounds 3] [--dtype bf16|int8|...]
        [--device cpu|cuda] [--size 1024] [--batch 1] [--compile] [--waits sleep spin] [--busy] [--cpu-clock] [--tiny]
        [--whole] [--json FILE] [--plot FILE.png] [--sizes 512 1024 1536 2048] [--batches 1 2 4 8]

Random weights of the published shapes (4 GB in bf16; --tiny for a few thousand). A floor is the time that the matrix
products of our form take at this machine's best rate, or reading the weights once if that takes longer. Results differ
in fp32 by rounding; in bf16 by much more, since diffusers rounds the timestep as well. In int8 this project is compared
with itself, too, in the dtype that it computes in beside the products.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import torch

from contenders import ROWS, Settings, save_networks
from measuring import BUSY, Row, compare, others_share, product_rate, reading_rate
from plotting import STEPS, plot
from wuerstchen_core import StageA, StageB, StageC

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32, "int8": torch.int8}
WEIGHTS = {"stage_c": StageC, "stage_b": StageB, "stage_a": StageA}
MIB = 1 << 20
WHOLE_BATCH = 8
"""Pictures at once in the second half of the whole table."""


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
    _refuse_if_busy(options.busy)
    flops, reading = product_rate(settings), reading_rate(settings)
    name = torch.cuda.get_device_name() if settings.device == "cuda" else settings.device
    report: dict[str, Any] = {
        "machine": {
            "device": name,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "product_rate": flops,
            "reading_rate": reading,
        },
        "settings": {**asdict(settings), "dtype": options.dtype},
        "rows": {},
    }
    print(f"{options.dtype}, {name}, {torch.get_num_threads()} threads, products {flops / 1e9:.0f} GFLOP/s, "
          f"reading {reading / 1e9:.1f} GB/s; best (median, spread) of {options.rounds}", flush=True)  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="wuerstchen-benchmark-", dir=options.folder) as folder:
        settings = replace(settings, folder=folder)
        os.environ["WUERSTCHEN_CACHE"] = f"{folder}/cache"  # of weights in int8
        if {"load", "picture"} & set(options.rows):
            save_networks(settings)
        for each in _variants(settings, options):
            told = _told(each, settings)
            if told:
                print(told, flush=True)
            _rows(each, options, report["rows"] if not told else report.setdefault(told, {}), flops, reading)
        if options.plot:
            report["plot"] = plot(settings, Path(options.plot), options.sizes, options.batches)
    if options.json:
        Path(options.json).write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


def _refuse_if_busy(anyway: bool) -> None:
    """Print how busy this machine is; exit where others use it, for then a table says nothing."""
    share = others_share()
    if share is None:
        return
    told = f"Other programs use {share:.0%} of this machine's processors (load {os.getloadavg()[0]:.1f})."
    if share > BUSY and not anyway:
        sys.exit(f"{told} Expected less than {BUSY:.0%}: wait for them to end, or measure all the same with --busy.")
    print(told, flush=True)


def _variants(settings: Settings, options: argparse.Namespace) -> list[Settings]:
    """Return what is measured: the settings, with each way of waiting; or the whole table."""
    if options.whole:
        return [
            replace(settings, batch=batch, compile=compiled) for batch in (1, WHOLE_BATCH) for compiled in (False, True)
        ]
    return [replace(settings, spins=way == "spin") for way in options.waits]


def _told(each: Settings, first: Settings) -> str:
    """Return what a variant differs in."""
    differences = [
        f"batch {each.batch}" if each.batch != first.batch else "",
        "compiled" if each.compile != first.compile else "",
        "threads that wait keep their core busy" if each.spins != first.spins else "",
    ]
    return ", ".join(filter(None, differences))


def _rows(
    settings: Settings, options: argparse.Namespace, report: dict[str, Any], flops: float, reading: float
) -> None:
    """Measure and print the rows with some settings."""
    measured: dict[str, Row] = {}
    for name in options.rows:
        try:
            row = compare(name, settings, options.rounds)
        except RuntimeError as error:  # as a side that runs out of memory; the other rows are worth having
            if not options.whole:
                raise
            print(f"{ROWS[name][0]:36} | left out: {error}", flush=True)
            continue
        floor = _floor(name, row, settings, flops, reading)
        measured[name] = row
        report[name] = _entry(row, floor)
        print(_line(ROWS[name][0], row, floor), flush=True)
    if WEIGHTS.keys() <= measured.keys():
        report["whole_picture"] = _whole(measured, settings)


def _floor(name: str, row: Row, settings: Settings, flops: float, reading: float) -> float | None:
    if name not in WEIGHTS:
        return None
    with torch.device("meta"):
        weights = sum(each.numel() for each in WEIGHTS[name](settings.config(WEIGHTS[name])).parameters())
    return max(row.flops / flops, weights * settings.plain.itemsize / reading)


def _entry(row: Row, floor: float | None) -> dict[str, Any]:
    times = {
        side: {
            "best": each.best,
            "median": each.median,
            "spread": each.spread,
            "seconds": each.seconds,
            "peak": each.peak,
            "difference": row.differences[side],
        }
        for side, each in row.times.items()
    }
    return {**times, "ratio": row.ratio(), "difference": row.differences["ours"], "flops": row.flops, "floor": floor}


def _line(label: str, row: Row, floor: float | None) -> str:
    columns = [f"{label:36}"]
    for side, times in row.times.items():
        over = "" if floor is None else f", {times.best / floor:.2f} floors"
        columns.append(
            f"{side} {times.best:8.3f} s ({times.median:.3f}, {times.spread:.0%}{over}), {times.peak / MIB:5.0f} MiB"
        )
    columns += [f"{row.ratio(side):.2f}x {side}" for side in row.times if side != "ours"]
    columns.append(f"results {row.differences['ours']:.1e} apart")
    return " | ".join(columns)


def _whole(measured: dict[str, Row], settings: Settings) -> dict[str, float]:
    """A picture of 29 + 12 steps, put together from what one of each takes."""
    whole = {
        side: sum(count * measured[name].times[side].best for name, count in STEPS.items()) for side in settings.sides
    }
    ratios = {side: seconds / whole["ours"] for side, seconds in whole.items() if side != "ours"}
    columns = [
        f"{'29 + 12 steps and decode, summed':36}",
        *(f"{side} {seconds:8.1f} s" for side, seconds in whole.items()),
    ]
    print(" | ".join([*columns, *(f"{ratio:.2f}x {side}" for side, ratio in ratios.items())]), flush=True)
    return {**whole, "ratio": ratios["diffusers"]}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Times this project against diffusers.")
    parser.add_argument("--rows", nargs="*", choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--device", default="cpu", help="cpu or cuda, which prints the whole table")
    parser.add_argument(
        "--whole", action="store_true", help="eager and compiled, a batch of 1 and of 8: the three stages"
    )
    parser.add_argument(
        "--waits", nargs="+", choices=["sleep", "spin"], default=["sleep"], help="what threads do that wait for work"
    )
    parser.add_argument("--busy", action="store_true", help="measure on a machine that others use")
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
    options = parser.parse_args()
    options.whole = options.whole or (options.device == "cuda" and options.rows is None)
    if options.rows is None:
        options.rows = list(WEIGHTS if options.whole else ROWS)
    return options


if __name__ == "__main__":
    main()
