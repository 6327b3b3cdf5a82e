"""Timing two sides in turn, each in a process of its own, and what this machine could do at best."""

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, sdpa_flop_count

from contenders import ROWS, Settings, Side
from wuerstchen_nodes.headless.threads import POLICY

WAITS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Variables that say whether threads that wait for work keep their core busy."""
BUSY = 0.1
"""Share of the processor that others may use."""


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
    """One kind of work on all sides.

    times: of each side. differences: root mean square of each side's difference from diffusers' result, relative to
    that. flops: of our form.
    """

    times: dict[Side, Times]
    differences: dict[Side, float]
    flops: int

    def ratio(self, to: Side = "diffusers") -> float:
        """Return the ratio of the best times, another side's by ours: above 1 ours is faster."""
        return self.times[to].best / self.times["ours"].best


def compare(row: str, settings: Settings, rounds: int) -> Row:
    """Let all sides do a row's work in turn, `rounds` times after one that does not count.

    Raises:
        RuntimeError: a side failed.
    """
    context = multiprocessing.get_context("spawn")
    connections: dict[Side, Any] = {}
    processes = []
    results: dict[Side, Any] = {}
    try:
        for side in settings.sides:
            connections[side], theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, row, side, settings), daemon=False)
            with waiting(settings.spins):
                process.start()
            processes.append(process)
            theirs.close()
            results[side] = _ask(connections[side], side)
        seconds: dict[Side, list[float]] = {side: [] for side in settings.sides}
        peaks = {}
        for _ in range(rounds):
            for side in settings.sides:
                _send(connections[side], side)
                took, peaks[side] = _ask(connections[side], side)
                seconds[side].append(took)
    finally:
        for connection in connections.values():
            connection.close()
        for process in processes:
            process.join()
    drawn = {side: results[side]["result"].float() for side in settings.sides}
    theirs = drawn["diffusers"]
    scale = theirs.square().mean().sqrt().clamp(min=1e-12)
    differences: dict[Side, float] = {
        side: float((drawn[side] - theirs).square().mean().sqrt() / scale) for side in settings.sides
    }
    times: dict[Side, Times] = {side: Times(seconds[side], peaks[side]) for side in settings.sides}
    counted: Side = "plain" if "plain" in results else "ours"  # products in eight bits are not counted
    return Row(times, differences, results[counted]["flops"])


@contextmanager
def waiting(spins: bool) -> Generator[None]:
    """Let processes that are started here have threads that keep their core busy while they wait, or that sleep."""
    before = {name: os.environ.pop(name, None) for name in WAITS}
    if not spins:
        os.environ.update(POLICY)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


def others_share(seconds: float = 2.0) -> float | None:
    """Return the share of the processor that other programs use, 0..1, while this one sleeps; None where unknown."""
    try:
        before = _ticks()
        time.sleep(seconds)
        after = _ticks()
    except (OSError, ValueError, IndexError):
        return None
    total = sum(after) - sum(before)
    return 1 - (after[3] + after[4] - before[3] - before[4]) / max(total, 1)  # idle, and waiting for a disk


def _ticks() -> list[int]:
    return [int(each) for each in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:9]]


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
    a, b = (torch.randn(side, side, device=settings.device).to(settings.plain) for _ in range(2))
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
