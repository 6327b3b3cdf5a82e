# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# torch types manual_seed, backward, the optimizers' step and get_ema_multi_avg_fn in part only.
"""Training loop of every network: AdamW, warm-up and cosine decay, averaged weights, resumable."""

import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..files import replaced_whole
from ..networks.processor import HAS_BFLOAT16

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """Length and speed of a training.

    Attributes:
        steps: Number of steps.
        learning_rate: Highest learning rate, reached after `warmup` steps.
        warmup: Steps over which the learning rate rises from 0.
        final_rate: Learning rate of the last step, as a share of the highest one.
        ema_decay: Decay of the exponential average of the weights, which is the result, 0..1.
        weight_decay: Weight decay of AdamW.
        autocast: True to compute in bfloat16 where the processor multiplies in it.
        save_every: Steps between two saves.
        log_every: Steps between two lines in the log.
    """

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 200
    final_rate: float = 0.02
    ema_decay: float = 0.999
    weight_decay: float = 0.01
    autocast: bool = True
    save_every: int = 250
    log_every: int = 50

    def rate(self, step: int) -> float:
        """Return the learning rate at a step, which counts from 0."""
        warm = min(1.0, (step + 1) / self.warmup)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))
        return self.learning_rate * warm * (self.final_rate + (1 - self.final_rate) * cosine)


Loss = Callable[[np.random.Generator], Tensor]
"""Function that draws a batch with a random generator and returns its loss, a scalar."""


def train(name: str, network: nn.Module, loss: Loss, config: LoopConfig, folder: Path, *, seed: int = 0) -> nn.Module:
    """Train a network in place.

    Progress is saved in `folder/name.pt`. A run that was killed continues from there, and a finished one returns at
    once. A batch depends on the seed and the step only, so an interrupted run sees the same batches as any other.

    Args:
        name: Name of the progress file and in the log.
        network: Network to train.
        loss: Function that draws a batch and returns its loss.
        config: Length and speed of the training.
        folder: Folder of the progress file.
        seed: Seed of the batches.
    Returns:
        nn.Module: `network` with its averaged weights, in eval mode.
    """
    path = folder / f"{name}.pt"
    average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
    optimizer = torch.optim.AdamW(
        (p for p in network.parameters() if p.requires_grad),
        betas=(0.9, 0.99),
        weight_decay=config.weight_decay,
    )
    step = 0
    if path.is_file():
        state = torch.load(path, weights_only=True)
        step = state["step"]
        average.load_state_dict(state["average"])
        if step < config.steps:
            network.load_state_dict(state["network"])
            optimizer.load_state_dict(state["optimizer"])
        log.info("%s: resumed at step %d of %d", name, step, config.steps)

    autocast = config.autocast and HAS_BFLOAT16
    network.train()
    losses: list[float] = []
    started, first = time.monotonic(), step
    while step < config.steps:
        rng = np.random.default_rng([seed, step])
        torch.manual_seed(hash((seed, step)) % 2**63)
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            value = loss(rng)
        optimizer.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        average.update_parameters(network)
        losses.append(value.item())
        step += 1
        if step % config.log_every == 0 or step == config.steps:
            pace = (time.monotonic() - started) / (step - first)
            log.info(
                "%s: step %d of %d, loss %.5f, %.3f s a step, %.1f min left",
                name, step, config.steps, sum(losses) / len(losses), pace, pace * (config.steps - step) / 60,
            )  # fmt: skip
            losses.clear()
        if step % config.save_every == 0 or step == config.steps:
            _save(path, step, network, average, optimizer)
    network.load_state_dict(average.module.state_dict())
    return network.eval()


def _save(path: Path, step: int, network: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    state = {
        "step": step,
        "network": network.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    with replaced_whole(path) as partial:
        torch.save(state, partial)
