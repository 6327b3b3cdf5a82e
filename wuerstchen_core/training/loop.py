# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# pyright: reportMissingTypeStubs=false
# torch types manual_seed, the optimizers' step and get_ema_multi_avg_fn in part only, and accelerate not at all.
"""Training loop of every network: AdamW, warm-up and decay, averaged weights, resumable after a kill at any moment.

Accelerate spreads it over several processes and graphics cards (`accelerate launch`).
"""

import logging
import math
import reprlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..checkpoints.pickles import read_pickle
from ..errors import CheckpointError, InputError
from ..files.writing import replaced_whole
from ..networks.processor import HAS_BFLOAT16

if TYPE_CHECKING:
    from accelerate import Accelerator

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoopConfig:
    """Length and speed of a training.

    Attributes:
        steps: Number of steps.
        learning_rate: Highest learning rate, reached after `warmup` steps.
        warmup: Steps over which the learning rate rises from 0.
        final_rate: Learning rate of the last step, as a share of the highest one; 1 keeps it.
        ema_decay: Decay of the exponential average of the weights, which is the result, 0..1; None for no average.
        weight_decay: Weight decay of the optimizer.
        betas: Decays of the optimizer's averages.
        optimizer: "adamw", or "adamw8bit" of bitsandbytes, whose state takes a quarter of the memory.
        autocast: True to compute in bfloat16 where the processor multiplies in it.
        save_every: Steps between two saves.
        log_every: Steps between two lines in the log.
    """

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 200
    final_rate: float = 0.02
    ema_decay: float | None = 0.999
    weight_decay: float = 0.01
    betas: tuple[float, float] = (0.9, 0.99)
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    autocast: bool = True
    save_every: int = 250
    log_every: int = 50

    def rate(self, step: int) -> float:
        """Return the learning rate at a step, which counts from 0."""
        warm = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, step / self.steps)))
        return self.learning_rate * warm * (self.final_rate + (1 - self.final_rate) * cosine)


Loss = Callable[[np.random.Generator], Tensor]
"""Function that draws a batch with a random generator and returns its loss, a scalar."""
OnStep = Callable[[int, float | None], None]
"""Function that is called with the number of steps done and the loss of the last one; None where a run begins."""


def make_accelerator(*, cpu: bool = False) -> "Accelerator":
    """Return what spreads a training over processes and devices, for this process.

    Args:
        cpu: True to stay on the processor where there is a graphics card.
    Raises:
        InputError: accelerate is not installed.
    """
    try:
        from accelerate import Accelerator
    except ImportError:
        raise InputError("Training needs accelerate and peft. Run: pip install 'wuerstchen[train]'") from None

    # The precision is the loop's own, since one process may train several networks, each in another one.
    return Accelerator(mixed_precision="no", cpu=cpu or not torch.cuda.is_available())


def train(
    name: str,
    network: nn.Module,
    loss: Loss,
    config: LoopConfig,
    folder: Path,
    *,
    seed: int = 0,
    accelerator: "Accelerator | None" = None,
    on_step: OnStep | None = None,
) -> nn.Module:
    """Train a network in place.

    Progress is saved in `folder/name.pt`. A run that was killed continues from there, and a finished one returns at
    once. A batch depends on the seed and the step only, so an interrupted run sees the same batches as any other, and
    ends with the same weights.

    Args:
        name: Name of the progress file and in the log.
        network: Network to train. Parameters that need no gradient stay as they are, and are not saved.
        loss: Function that draws a batch and returns its loss.
        config: Length and speed of the training.
        folder: Folder of the progress file.
        seed: Seed of the batches.
        accelerator: Result of `make_accelerator`; None for one on the processor.
        on_step: Called after each step, and once at the start.
    Returns:
        nn.Module: `network` with its averaged weights, in eval mode.
    Raises:
        InputError: The loss is no longer a number, or a library that the training needs is not installed.
    """
    there = accelerator or make_accelerator(cpu=True)
    in_bfloat16 = config.autocast and (HAS_BFLOAT16 or there.device.type != "cpu")
    path = folder / f"{name}.pt"
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    average = None
    if config.ema_decay is not None:
        average = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay), use_buffers=True)
    optimizer = _optimizer(trained, config)
    step = 0
    if path.is_file():
        step = _resume(path, network, average, optimizer, config.steps)
        log.info("%s: resumed at step %d of %d", name, step, config.steps)

    stepping, optimizer = there.prepare(_Stepping(network, loss, there.device if in_bfloat16 else None), optimizer)
    network.train()
    losses: list[float] = []
    started, first = time.monotonic(), step
    if on_step is not None:
        on_step(step, None)
        network.train()
    while step < config.steps:
        rng = np.random.default_rng([seed, step, there.process_index] if there.process_index else [seed, step])
        torch.manual_seed(hash((seed, step, there.process_index) if there.process_index else (seed, step)) % 2**63)
        for group in optimizer.param_groups:
            group["lr"] = config.rate(step)
        value: Tensor = stepping(rng)
        optimizer.zero_grad(set_to_none=True)
        there.backward(value)
        there.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        if average is not None:
            average.update_parameters(network)
        last = float(value.detach())
        losses.append(last)
        step += 1
        if not math.isfinite(last):
            raise InputError(
                f"{name}: the loss of step {step} is {last}; expected a number. Train at a lower learning rate "
                f"than {config.learning_rate}; {path} holds the progress before it."
            )
        if step % config.log_every == 0 or step == config.steps:
            pace = (time.monotonic() - started) / (step - first)
            log.info(
                "%s: step %d of %d, loss %.5f, %.3f s a step, %.1f min left",
                name, step, config.steps, sum(losses) / len(losses), pace, pace * (config.steps - step) / 60,
            )  # fmt: skip
            losses.clear()
        if there.is_main_process and (step % config.save_every == 0 or step == config.steps):
            _save(path, step, network, average, optimizer)
        if on_step is not None:
            on_step(step, last)
            network.train()
    if average is not None:
        network.load_state_dict(average.module.state_dict())
    return network.eval()


class _Stepping(nn.Module):
    """A network and its loss as one module, whose forward accelerate wraps where several processes train.

    Args:
        network: The network.
        loss: Its loss.
        in_bfloat16: Device whose products are computed in bfloat16; None for the dtype of the weights.
    """

    def __init__(self, network: nn.Module, loss: Loss, in_bfloat16: torch.device | None) -> None:
        super().__init__()
        self.network = network
        self._loss = loss
        self._in_bfloat16 = in_bfloat16

    def forward(self, rng: np.random.Generator) -> Tensor:
        if self._in_bfloat16 is None:
            return self._loss(rng)
        with torch.autocast(self._in_bfloat16.type, torch.bfloat16):
            return self._loss(rng)


def _optimizer(parameters: Iterable[nn.Parameter], config: LoopConfig) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {"betas": config.betas, "weight_decay": config.weight_decay}
    if config.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **settings)
    try:
        import bitsandbytes  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise InputError("The optimizer adamw8bit needs bitsandbytes. Run: pip install bitsandbytes") from None
    return bitsandbytes.optim.AdamW8bit(parameters, **settings)


def _resume(
    path: Path, network: nn.Module, average: nn.Module | None, optimizer: torch.optim.Optimizer, steps: int
) -> int:
    """Take the progress that `_save` has written, and return its step. Raises InputError: It is none, or damaged."""
    try:
        state: Any = read_pickle(path, mapped=False)
        step = state["step"]
        if type(step) is not int or step < 0:
            raise ValueError(f"its step is {reprlib.repr(step)}; expected a whole number")
        for name, parameter in network.named_parameters():
            # Torch 2.7 takes the first number of a list for a scalar without a word.
            if parameter.requires_grad and state["network"][name].shape != parameter.shape:
                raise ValueError(f"its {name} has shape {list(state['network'][name].shape)}")
        network.load_state_dict(state["network"], strict=False)
        if average is not None:
            average.load_state_dict(state["average"])
        if step < steps:
            # The settings are those of this run; a file could hold anything in their place.
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": dict(state["optimizer"]["state"]), "param_groups": groups})
            if isinstance(optimizer, torch.optim.AdamW):
                _check_averages(optimizer)
    except (
        CheckpointError,
        RuntimeError,
        AssertionError,
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
    ) as error:
        reason = str(error).removeprefix(f"{path} ").partition("\n")[0][:200]
        raise InputError(
            f"{path} is not the progress of this training, or is damaged ({type(error).__name__}: {reason}). "
            "Delete it to begin again, or put back a copy."
        ) from error
    return step


def _check_averages(optimizer: torch.optim.AdamW) -> None:
    """Check what AdamW has averaged for each parameter. Raises ValueError, LookupError, TypeError, RuntimeError."""
    state: dict[Any, Any] = dict(optimizer.state)  # a damaged file leaves numbers where it has too many parameters
    for parameter, found in state.items():
        if not isinstance(parameter, Tensor):
            raise ValueError("its optimizer has more parameters than the network")
        for name in ("exp_avg", "exp_avg_sq"):
            if found[name].shape != parameter.shape or found[name].dtype != parameter.dtype:
                raise ValueError(f"the {name} of its optimizer has shape {list(found[name].shape)}")
        if not 0 <= float(found["step"]) < math.inf:
            raise ValueError(f"the step of its optimizer is {float(found['step'])}")


def _save(
    path: Path, step: int, network: nn.Module, average: nn.Module | None, optimizer: torch.optim.Optimizer
) -> None:
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    state: dict[str, Any] = {
        "step": step,
        "network": {key: value for key, value in network.state_dict().items() if key not in frozen},
        "optimizer": optimizer.state_dict(),
    }
    if average is not None:
        state["average"] = average.state_dict()
    with replaced_whole(path) as partial, partial.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            if isinstance(error.__context__, OSError):  # such as a full disk, behind an error of torch's own
                raise error.__context__ from None
            raise
