# pyright: reportMissingImports=false
"""A plot of the time a picture takes against its size and against the batch; wants matplotlib (the extra `bench`)."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from contenders import Settings
from measuring import compare

STEPS = {"stage_c": 29, "stage_b": 12, "stage_a": 1}
"""Of a whole picture, as published."""


def plot(settings: Settings, path: Path, sizes: Sequence[int], batches: Sequence[int]) -> list[dict[str, Any]]:
    """Time a picture of 29 + 12 steps on both sides, summed from one step of each stage, and draw the curves.

    Args:
        sizes: in pixels, at a batch of 1. batches: at the smallest size.
    Returns:
        The points: size, batch, and seconds a picture of both sides. One where a side fails is left out.
    """
    smallest = min(sizes)
    wanted = [(size, 1) for size in sizes] + [(smallest, batch) for batch in batches if batch > 1]
    points: list[dict[str, Any]] = []
    for size, batch in wanted:
        point: dict[str, Any] = {"size": size, "batch": batch, **dict.fromkeys(settings.sides, 0.0)}
        try:
            for name, count in STEPS.items():
                row = compare(name, replace(settings, size=size, batch=batch), rounds=1)
                for side in settings.sides:
                    point[side] += count * row.times[side].best / batch
        except RuntimeError as error:  # as a side that runs out of memory; the other points are worth having
            print(f"a picture of {size}x{size} in a batch of {batch} is left out: {error}", flush=True)
            continue
        points.append(point)
        told = ", ".join(f"{side} {point[side]:.1f} s" for side in settings.sides)
        print(f"a picture of {size}x{size} in a batch of {batch}: {told}", flush=True)
    _draw(points, smallest, settings, path)
    return points


LABELS = {"ours": "this project", "plain": "this project without int8"}
"""Labels of sides; others are called as they are."""


def _draw(points: list[dict[str, Any]], smallest: int, settings: Settings, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    by_size, by_batch = figure.subplots(1, 2)
    alone = [point for point in points if point["batch"] == 1]
    together = [point for point in points if point["size"] == smallest]
    axes = (
        (by_size, "size", "side of the picture, pixels", alone),
        (by_batch, "batch", f"pictures at once, {smallest}x{smallest}", together),
    )
    for axis, key, label, shown in axes:
        for side in settings.sides:
            named = LABELS.get(side, side)
            axis.plot([each[key] for each in shown], [each[side] for each in shown], marker="o", label=named)
        axis.set_xlabel(label)
        axis.set_ylabel("seconds a picture, 29 + 12 steps")
        axis.set_xticks([each[key] for each in shown])
        axis.set_ylim(bottom=0)
    by_size.legend()
    where = "CPU" if settings.device == "cpu" else settings.device
    dtype = str(settings.dtype).removeprefix("torch.")
    figure.suptitle(f"Seconds for a picture on a {where}, {dtype}: lower is better")
    figure.savefig(path, dpi=130)
