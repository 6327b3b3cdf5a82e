"""Loading networks: the one place that joins sources, checkpoints, configs and networks."""

from collections import Counter
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, InputError
from ..networks.blocks import Operations
from ..networks.processor import HAS_BFLOAT16
from ..networks.stage_a import StageA
from ..networks.stage_b import StageB
from ..networks.stage_c import StageC
from ..text import TextEncoder
from .checkpoint import Checkpoint, read_checkpoint
from .components import STAGE_A, STAGE_B, STAGE_C, Component, Config, Network, describe
from .config import check, config_from
from .layouts import PREVIEW_FILE
from .sources import locate, text_folders

Device = str | torch.device

_COMPUTED = (torch.float32, torch.float16, torch.bfloat16)
"""Dtypes that networks run in."""
LARGE = 100_000_000
"""Weights from which a network runs in bfloat16 on a processor that can; smaller ones are fast enough in float32."""


def load_stage_c(
    source: str | Path,
    *,
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
    download: bool = False,
    operations: Operations = nn,
) -> StageC:
    """Load Stage C (the prior) from any layout, ready for sampling.

    Args:
        source: a preset's name, a weights file, a folder, or a hub repository ("owner/name").
        dtype: of the weights and the computation; None is what is stored, and on the CPU float32, or bfloat16 for a
            network as large as the published ones where the processor multiplies in it.
        download: fetch from the hub what is not on this machine; without it nothing is ever downloaded.
        operations: the namespace that layers come from, for hosts that manage weights themselves.
    Returns:
        StageC: in eval mode, without gradients.
    Raises:
        WeightsMissingError: the checkpoint is not on this machine.
        CheckpointError: it is damaged, unsafe, or of another network.
        InputError: there is no such device, or `dtype` is none that networks run in.
    """
    return _load(STAGE_C, source, device, dtype, download, operations)


def load_stage_b(
    source: str | Path,
    *,
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
    download: bool = False,
    operations: Operations = nn,
) -> StageB:
    """Load Stage B (the decoder). Arguments and errors as for `load_stage_c`."""
    return _load(STAGE_B, source, device, dtype, download, operations)


def load_stage_a(
    source: str | Path,
    *,
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
    download: bool = False,
    operations: Operations = nn,
) -> StageA:
    """Load Stage A (the VQGAN). Arguments and errors as for `load_stage_c`."""
    return _load(STAGE_A, source, device, dtype, download, operations)


def load_text_encoder(
    source: str | Path,
    *,
    for_stage: Literal["C", "B"] = "C",
    device: Device = "cpu",
    dtype: torch.dtype | None = None,
    download: bool = False,
) -> TextEncoder:
    """Load the text encoder of a stage, with its tokenizer.

    Args:
        source: a preset's name, a pipeline's folder or the text encoder's own, or a hub repository ("owner/name").
        for_stage: which of a preset's two text encoders; any other source has one.
        dtype, download: as for `load_stage_c`.
    Raises:
        as for `load_stage_c`.
    """
    if for_stage not in ("C", "B"):
        raise InputError(f"for_stage is {for_stage!r}; expected 'C' or 'B'.")
    where, kind = _device(device), _dtype(dtype)
    path = locate(source, f"text_encoder_{for_stage.lower()}", download=download)
    if kind is None and where.type == "cpu":
        kind = torch.float32
    return TextEncoder.from_folders(*text_folders(path), device=where, dtype=kind)


def _load(
    component: Component[Network, Config],
    source: str | Path,
    device: Device,
    dtype: torch.dtype | None,
    download: bool,
    operations: Operations,
) -> Network:
    where, kind = _device(device), _dtype(dtype)
    checkpoint = read_checkpoint(locate(source, component.stage, download=download), component.folder)
    _check_stage(component, checkpoint)
    with torch.device("meta"):
        network = component.network(_config(component, checkpoint), operations)
    _check_keys(component, network, checkpoint)
    _set_preview(network, checkpoint)
    state = checkpoint.state
    if kind is None:
        weights = sum(tensor.numel() for tensor in state.values())
        kind = cpu_dtype(weights) if where.type == "cpu" else _stored_dtype(state)
    for key in list(state):
        tensor = state.pop(key)
        state[key] = tensor.to(where, kind if tensor.is_floating_point() else tensor.dtype)
    network.load_state_dict(state, strict=True, assign=True)
    return network.eval().requires_grad_(False)


def _check_stage(component: Component, checkpoint: Checkpoint) -> None:
    """Raises CheckpointError where the file or its config.json is of another network."""
    wanted = f"Stage {component.stage} ({component.folder})"
    class_name = (checkpoint.config or {}).get("_class_name", component.class_name)
    if class_name != component.class_name:
        raise CheckpointError(
            f"{checkpoint.config_file} is of the class {class_name!r}; expected {component.class_name!r}, {wanted}. "
            "Choose that stage's folder or file."
        )
    if component.mark not in checkpoint.state:
        found = describe(checkpoint.state) or f"no stage of Würstchen (its first keys are {list(checkpoint.state)[:3]})"
        raise CheckpointError(
            f"{checkpoint.weights} looks like {found}; expected {wanted}, which has {component.mark!r}. "
            "Choose another file, or load it as what it is."
        )


def _config(component: Component[Network, Config], checkpoint: Checkpoint) -> Config:
    if checkpoint.config is not None:
        return config_from(checkpoint.config, component.config, str(checkpoint.config_file))
    try:
        config = component.infer(checkpoint.state)
    except (KeyError, ValueError, IndexError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"{checkpoint.weights}: the shape of the network cannot be told from its tensors: {reason}. Expected all "
            f"tensors of Stage {component.stage}; put its config.json beside it in a folder, or download it again."
        ) from error
    check(config, str(checkpoint.weights))
    return config


def _check_keys(component: Component, network: nn.Module, checkpoint: Checkpoint) -> None:
    """Raises CheckpointError at the first key that is missing, unexpected, or of the wrong shape or kind."""
    expected, state = network.state_dict(), checkpoint.state
    for key, tensor in expected.items():
        if key.endswith(".num_batches_tracked"):  # a counter of training; some files leave it out or made it a float
            state[key] = state.get(key, torch.zeros(tensor.shape)).to(tensor.dtype)
    stage = f"Stage {component.stage}"
    if checkpoint.config_file:
        stage += f" as {checkpoint.config_file} describes it"
    advice = "Choose a checkpoint of that network, or download it again."
    for key in sorted(expected.keys() | state.keys()):
        if key not in state:
            absent = len(expected.keys() - state.keys())
            raise CheckpointError(
                f"{checkpoint.weights}: {key!r} is one of {absent} missing; expected it with shape "
                f"{list(expected[key].shape)} for {stage}. {advice}"
            )
        if key not in expected:
            surplus = len(state.keys() - expected.keys())
            raise CheckpointError(
                f"{checkpoint.weights}: {key!r} with shape {list(state[key].shape)} is one of {surplus} unexpected. "
                f"{stage} has no such tensor. {advice}"
            )
        if state[key].shape != expected[key].shape:
            raise CheckpointError(
                f"{checkpoint.weights}: {key!r} has shape {list(state[key].shape)}; expected "
                f"{list(expected[key].shape)} for {stage}. {advice}"
            )
        if state[key].is_floating_point() != expected[key].is_floating_point():
            raise CheckpointError(
                f"{checkpoint.weights}: {key!r} is stored as {state[key].dtype}; expected {expected[key].dtype} or "
                "another floating-point dtype. Quantized checkpoints are not supported; choose one that is not."
            )


def _set_preview(network: nn.Module, checkpoint: Checkpoint) -> None:
    table = checkpoint.latent_rgb
    if table is None or not isinstance(network, StageB | StageC):
        return
    expected = network.config.c_in + 1
    if len(table) != expected:
        raise CheckpointError(
            f"{checkpoint.weights.with_name(PREVIEW_FILE)}: latent_rgb has {len(table)} rows; expected {expected}, one "
            "a channel and one for none. It serves previews only; delete the file."
        )
    network.latent_rgb = table


def cpu_dtype(weights: int) -> torch.dtype:
    """What a network of so many weights runs in on this processor, where nobody asks for another dtype."""
    return torch.bfloat16 if weights >= LARGE and HAS_BFLOAT16 else torch.float32


def _stored_dtype(state: dict[str, Tensor]) -> torch.dtype:
    """The dtype of most of the weights, or float32 where networks do not run in it."""
    sizes: Counter[torch.dtype] = Counter()
    for tensor in state.values():
        sizes[tensor.dtype] += tensor.numel()
    most = sizes.most_common(1)[0][0]
    return most if most in _COMPUTED else torch.float32


def _device(device: Device) -> torch.device:
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # torch asserts where it was built without CUDA
        reason = str(error).partition("\n")[0]
        raise InputError(
            f"device is {str(device)!r}, which cannot be used: {reason} Expected 'cpu' or another."
        ) from error


def _dtype(dtype: torch.dtype | None) -> torch.dtype | None:
    if dtype is not None and dtype not in _COMPUTED:
        raise InputError(f"dtype is {dtype!r}; expected one of {', '.join(str(each) for each in _COMPUTED)}, or None.")
    return dtype
