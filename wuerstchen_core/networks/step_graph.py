# pyright: reportUnknownMemberType=false
# torch types CUDA graphs in part only.
"""CUDA graphs of a network's step: a graphics card repeats the kernels of a step without waiting for Python."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

logger = logging.getLogger(__name__)

Predict = Callable[[Tensor, Tensor, Any], Tensor]
"""Function (x, timestep ratio, condition) -> noise, such as `StageC.predict`."""
Capture = Callable[[Callable[[], Tensor]], tuple[Callable[[], object], Tensor]]
"""Function that records the kernels of some work; returns a function that repeats them, and where the result lies."""


class StepGraph:
    """Prediction whose first call for a condition runs as it is, and whose further calls repeat what was recorded.

    Args:
        predict: The prediction. It must neither wait for the graphics card nor compute on the processor.
        capture: Records its kernels.
    """

    def __init__(self, predict: Predict, capture: Capture | None = None) -> None:
        self._predict = predict
        self._capture = _on_cuda if capture is None else capture
        self._seen: tuple[Any, torch.Size] | None = None
        self._inputs: tuple[Tensor, Tensor] | None = None
        self._repeat: Callable[[], object] | None = None
        self._result: Tensor | None = None
        self._works = True

    def __call__(self, x: Tensor, timestep_ratio: Tensor, condition: Any) -> Tensor:
        """Return the prediction. Arguments as for the network's own."""
        known = self._seen is not None and self._seen[0] is condition and self._seen[1] == x.shape
        if not self._works or torch.is_grad_enabled() or not known:
            self._seen, self._repeat = (condition, x.shape), None
            return self._predict(x, timestep_ratio, condition)
        if self._repeat is None or self._inputs is None or self._result is None:
            inputs = x.clone(), timestep_ratio.clone()
            try:
                self._repeat, self._result = self._capture(lambda: self._predict(*inputs, condition))
            except RuntimeError as error:  # such as weights that a host fetches when they are needed
                logger.info("The step is not recorded as a CUDA graph: %s", str(error).partition("\n")[0])
                self._works = False
                return self._predict(x, timestep_ratio, condition)
            self._inputs = inputs
        for kept, given in zip(self._inputs, (x, timestep_ratio), strict=True):
            kept.copy_(given)
        self._repeat()
        return self._result.clone()


def _on_cuda(work: Callable[[], Tensor]) -> tuple[Callable[[], object], Tensor]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()
    return graph.replay, result
