# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportMissingImports=false
# matplotlib and tensorboard are typed in part only.
"""Losses of a training as a CSV table, a plot, and for TensorBoard where that is installed."""

import csv
import logging
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from ..files.untrusted import MAX_TEXT_BYTES, read_bytes
from ..files.writing import replaced_whole

log = logging.getLogger(__name__)

TABLE, PLOT = "loss.csv", "loss.png"
PLOT_EVERY = 60.0
"""Seconds between two drawings of the plot."""
_LARGEST = 1e39
"""Above all float32 numbers. The plot cannot be drawn with such a loss."""


class Journal:
    """Losses by step. Rows of steps that a kill undid are dropped when the training goes on.

    Args:
        folder: Folder of the table and the plot.
        steps: Steps of the training.
        told: Called after each step with its number, its loss, and the seconds left.
    """

    def __init__(self, folder: Path, steps: int, told: Callable[[int, float, float], None] | None = None) -> None:
        self._folder, self._steps, self._told = folder, steps, told
        self._rows: list[tuple[int, float, float]] = []
        self._started: tuple[int, float] | None = None
        self._drawn = time.monotonic()
        self._board: Any = None
        if find_spec("tensorboard"):
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(folder / "tensorboard"))

    def add(self, step: int, loss: float, rate: float) -> None:
        """Add the loss and the learning rate of a step, which counts from 1."""
        if self._started is None:
            self._started = step, time.monotonic()
            self._rows = _read(self._folder / TABLE, before=step)
            _write(self._folder / TABLE, self._rows)
        self._rows.append((step, loss, rate))
        with (self._folder / TABLE).open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow((step, f"{loss:.6g}", f"{rate:.6g}"))
        if self._board is not None:
            self._board.add_scalar("loss", loss, step)
            self._board.add_scalar("learning rate", rate, step)
        first, began = self._started
        now = time.monotonic()
        if self._told is not None:
            pace = (now - began) / max(1, step - first)
            self._told(step, loss, pace * (self._steps - step))
        if step == self._steps or now - self._drawn > PLOT_EVERY:
            self._drawn = now
            self._draw()

    def _draw(self) -> None:
        if not find_spec("matplotlib"):
            return
        from matplotlib.figure import Figure

        steps, losses = [row[0] for row in self._rows], [row[1] for row in self._rows]
        window = max(1, len(losses) // 20)
        sums, places = np.cumsum([0.0, *losses]), np.arange(1, len(losses) + 1)
        smooth = (sums[places] - sums[np.maximum(places - window, 0)]) / np.minimum(places, window)
        figure = Figure(figsize=(8, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(steps, losses, color="#9db7d5", linewidth=0.6, label="each step")
        axes.plot(steps, smooth, color="#1f4e8c", linewidth=1.8, label=f"mean of {window} steps")
        axes.set(title="Loss of the training (lower is better)", xlabel="step", ylabel="loss")
        axes.set_ylim(0, sorted(losses)[int(0.99 * (len(losses) - 1))] * 1.1 or 1)
        axes.grid(alpha=0.3)
        axes.legend()
        with replaced_whole(self._folder / PLOT) as partial:
            figure.savefig(partial, format="png", dpi=110)


def _read(path: Path, before: int) -> list[tuple[int, float, float]]:
    """Return the whole rows of a table whose steps come before a step. Those that no training writes are left out.

    Raises:
        OSError: It cannot be read, or is larger than MAX_TEXT_BYTES.
    """
    rows: list[tuple[int, float, float]] = []
    last = 0
    if path.is_file():
        # Not csv, whose fields have a largest length: there are but numbers, without quotes.
        for line in read_bytes(path, MAX_TEXT_BYTES).decode("utf-8", errors="replace").splitlines()[1:]:
            row = line.split(",")
            try:
                step, loss, rate = int(row[0]), float(row[1]), float(row[2])
            except (ValueError, IndexError):
                continue
            if last < step < before and abs(loss) < _LARGEST and abs(rate) < _LARGEST:  # never so for NaN
                rows.append((step, loss, rate))
                last = step
    return rows


def _write(path: Path, rows: list[tuple[int, float, float]]) -> None:
    with replaced_whole(path) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("step", "loss", "learning_rate"))
        writer.writerows((step, f"{loss:.6g}", f"{rate:.6g}") for step, loss, rate in rows)
