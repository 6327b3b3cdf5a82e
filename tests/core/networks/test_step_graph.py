"""Steps that are recorded once and repeated, with a recorder in place of a graphics card."""

from collections.abc import Callable

import torch
from torch import Tensor

from wuerstchen_core.networks.step_graph import StepGraph


class Recorder:
    """Records work by keeping it: repeating it writes the result where the first one lies."""

    def __init__(self) -> None:
        self.recorded = 0

    def __call__(self, work: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        self.recorded += 1
        result = work()
        return lambda: result.copy_(work()), result


def _predict(x: Tensor, t: Tensor, condition: Tensor) -> Tensor:
    return x * t[:, None] + condition


def test_every_step_is_that_of_the_network():
    recorder, conditions = Recorder(), [torch.ones(1), torch.zeros(1)]
    graph = StepGraph(_predict, recorder)
    with torch.inference_mode():
        results, expected = [], []
        for condition in conditions:
            for size in (2, 3):
                for step in range(4):
                    x, t = torch.randn(size, 5), torch.full((size,), step / 4)
                    results.append(graph(x, t, condition))
                    expected.append(_predict(x, t, condition))
    assert all(torch.equal(*pair) for pair in zip(results, expected, strict=True)), "no result is overwritten later"
    assert recorder.recorded == 4, "one for each condition and size"


def test_what_cannot_be_recorded_runs_as_it_is():
    def refuse(work: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    graph, condition = StepGraph(_predict, refuse), torch.ones(1)
    with torch.inference_mode():
        for _ in range(3):
            assert torch.equal(graph(torch.ones(2, 5), torch.ones(2), condition), torch.full((2, 5), 2.0))


def test_nothing_is_recorded_while_gradients_are():
    recorder, condition = Recorder(), torch.ones(1)
    graph = StepGraph(_predict, recorder)
    for _ in range(3):
        graph(torch.ones(2, 5), torch.ones(2), condition)
    assert recorder.recorded == 0
