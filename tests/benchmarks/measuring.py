"""Timing two sides in turn, each in a process of its own, and what this machine could do at best."""

import multiprocessing
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from contenders import ROWS, Settings, Side

SIDES: tuple[Side, Side] = ("ours", "diffusers")


@dataclass(frozen=True)
class Times:
    """Seconds of each round; peak: the most bytes that the process had in memory, or on the GPU that it used."""

    seconds: list[float]
    peak: int

    @property
    def best(self) -> float:
        return min(self.seconds)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> float:
        """Of the slowest round over the fastest, less 1."""
        return max(self.seconds) / min(self.seconds) - 1


@dataclass(frozen=True)
class Row:
    """One kind of work on both sides.

    difference: root mean square of the results' difference, relative to diffusers' result. flops: of our form.
    """

    ours: Times
    diffusers: Times
    difference: float
    flops: int

    @property
    def ratio(self) -> float:
        """Return the ratio of the best times, diffusers by ours: above 1 ours is faster."""
        return self.diffusers.best / self.ours.best


def compare(row: str, settings: Settings, rounds: int) -> Row:
    """Let both sides do a row's work in turn, `rounds` times after one that does not count.

    Raises:
        RuntimeError: a side failed.
    """
    context = multiprocessing.get_context("spawn")
    connections: dict[Side, Any] = {}
    processes = []
    results: dict[Side, Any] = {}
    try:
        for side in SIDES:
            connections[side], theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, row, side, settings), daemon=False)
            process.start()
            processes.append(process)
            theirs.close()
            results[side] = _ask(connections[side], side)
        seconds: dict[Side, list[float]] = {side: [] for side in SIDES}
        peaks = {}
        for _ in range(rounds):
            for side in SIDES:
                _send(connections[side], side)
                took, peaks[side] = _ask(connections[side], side)
                seconds[side].append(took)
    finally:
        for connection in connections.values():
            connection.close()
        for process in processes:
            process.join()
    ours, theirs = (results[side]["result"].float() for side in SIDES)
    difference = float((ours - theirs).square().mean().sqrt() / theirs.square().mean().sqrt().clamp(min=1e-12))
    times = {side: Times(seconds[side], peaks[side]) for side in SIDES}
    return Row(times["ours"], times["diffusers"], difference, results["ours"]["flops"])


def _send(connection: Connection, side: Side) -> None:
    try:
        connection.send("again")
    except OSError:
        raise RuntimeError(f"{side}: the process ended while it waited") from None


def _ask(connection: Connection, side: Side) -> Any:
    try:
        answer = connection.recv()
    except EOFError:
        raise RuntimeError(f"{side}: the process ended before it answered") from None
    if isinstance(answer, str):
        raise RuntimeError(f"{side}: {answer}")
    return answer


@torch.inference_mode()
def _serve(connection: Connection, row: str, side: Side, settings: Settings) -> None:
    """One side's process: warm up, then once more whenever asked."""
    try:
        work = ROWS[row][1](side, settings)
        with counter() as counted:
            result = work()
        connection.send({"result": result.cpu().clone(), "flops": counted.get_total_flops()})
        del result
        while connection.recv():
            clock = clock_of(settings)
            started = clock()
            work()
            _wait_for(settings.device)
            connection.send((clock() - started, _peak(settings.device)))
    except EOFError:
        pass
    except Exception as error:
        connection.send(f"{type(error).__name__}: {error}")


def counter() -> FlopCounterMode:
    """Counts the operations of matrix products, those that torch's own counter leaves out among them."""

    def attention(q: Any, k: Any, v: Any, *_: Any, out_shape: Any = None, **__: Any) -> int:
        return sdpa_flop_count(q, k, v)

    on_cpu = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu

    def added_in_place(_: Any, a: Any, b: Any, **__: Any) -> int:
        return 2 * a[0] * a[1] * b[1]

    ours = torch.ops.wuerstchen_core.attend_in_parts
    formulas = {on_cpu: attention, ours: attention, torch.ops.aten.addmm_: added_in_place}
    return FlopCounterMode(display=False, custom_mapping=formulas)


def _wait_for(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()


def _peak(device: str) -> int:
    if device != "cpu":
        return torch.cuda.max_memory_allocated()
    # The high-water mark of this process: getrusage also counts what the parent had before this one was started.
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def clock_of(settings: Settings) -> Callable[[], float]:
    """Clock of all times, in seconds."""
    return time.process_time if settings.cpu_clock else time.perf_counter


@torch.inference_mode()
def product_rate(settings: Settings, side: int = 3072) -> float:
    """FLOP/s of a large matrix product, the best of a few."""
    a, b = (torch.randn(side, side, device=settings.device).to(settings.dtype) for _ in range(2))
    return 2 * side**3 / _best_of(lambda: a @ b, settings)


@torch.inference_mode()
def reading_rate(settings: Settings, size: int = 1 << 28) -> float:
    """Bytes/s of reading memory once, the best of a few."""
    block = torch.ones(size // 4, device=settings.device)
    return size / _best_of(block.sum, settings)


def _best_of(work: Callable[[], Tensor], settings: Settings, rounds: int = 6) -> float:
    best, clock = float("inf"), clock_of(settings)
    for _ in range(rounds):
        started = clock()
        work()
        _wait_for(settings.device)
        best = min(best, clock() - started)
    return best
