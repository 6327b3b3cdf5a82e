"""Open a checkpoint: find its files, and check that they hold the network that is asked for. Reads no weights yet."""

import reprlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..networks.stage_b import StageB
from ..networks.stage_c import StageC
from .architectures import Architecture, Network
from .colours import check_colours
from .components import Component, describe
from .config import AnyConfig, Config, State, blocks_of, check, config_from
from .reading import Checkpoint, StoredTensors, read_checkpoint
from .sources import locate_stage

_MOST_BLOCKS = 5000
"""Most blocks of a network. The published Stage B has 148."""


@dataclass(frozen=True)
class Opened(Generic[Network]):
    """A checkpoint that fits its network.

    Attributes:
        network: The network, on the meta device.
        checkpoint: Its files and tensors, which are mapped into memory where the format allows it.
        latent_rgb (Tensor | None): Colours of its previews.
        part: Part of the model, as for `read_checkpoint`.
    """

    network: Network
    checkpoint: Checkpoint
    latent_rgb: Tensor | None
    part: str

    def tensors(self) -> StoredTensors:
        """Return its tensors by their published names, to be read one by one."""
        files, part, state = self.checkpoint.files, self.part, self.checkpoint.state
        return StoredTensors(files.tensors, state, lambda: read_checkpoint(files, part).state)


def open_checkpoint(
    architectures: Sequence[Architecture[Network, Config]],
    source: str | Path,
    *,
    download: bool = False,
) -> Opened[Network]:
    """Find, map and check a checkpoint.

    Args:
        architectures: Networks that it may be of.
        source: A preset's name, a weights file, a folder, or a hub repository ("owner/name").
        download: Download files that are not on this machine.
    Raises:
        WeightsMissingError: The checkpoint is not on this machine, or could not be downloaded.
        CheckpointError: It is damaged, unsafe, or of another network.
    """
    first = architectures[0]
    checkpoint = read_checkpoint(locate_stage(source, first.component, download=download), first.component.part)
    architecture = next((each for each in architectures if _is_of(each.component, checkpoint)), first)
    _check_stage(architecture.component, checkpoint)
    config = _config(architecture, checkpoint)
    _check_size(config, checkpoint)
    with torch.device("meta"):
        network = architecture.network(config, nn)
    _check_keys(architecture.component, network, checkpoint)
    colours = checkpoint.latent_rgb if isinstance(network, StageB | StageC) else None
    if colours is not None and isinstance(network, StageB | StageC):
        check_colours(colours, network.config.c_in, checkpoint.files)
    return Opened(network, checkpoint, colours, first.component.part)


def _is_of(component: Component, checkpoint: Checkpoint) -> bool:
    """Return whether the config.json names the network, or without one, whether a tensor shows it."""
    named = (checkpoint.config or {}).get("_class_name")
    return component.mark in checkpoint.state if named is None else named == component.class_name


def _check_stage(component: Component, checkpoint: Checkpoint) -> None:
    """Raise CheckpointError if the tensors or the config.json are of another network."""
    files = checkpoint.files
    class_name = (checkpoint.config or {}).get("_class_name", component.class_name)
    if class_name != component.class_name:
        raise CheckpointError(
            f"{files.config} is of the class {reprlib.repr(class_name)}; expected {component.class_name!r}, "
            f"{component.label}. Choose that stage's folder or file."
        )
    if component.mark not in checkpoint.state:
        found = describe(checkpoint.state) or f"no stage of Würstchen (its first keys are {list(checkpoint.state)[:3]})"
        raise CheckpointError(
            f"{files.weights} looks like {found}; expected {component.label}, which has {component.mark!r}. "
            "Choose another file, or the loader that fits this one."
        )


def _config(architecture: Architecture[Any, Config], checkpoint: Checkpoint) -> Config:
    files = checkpoint.files
    if checkpoint.config is not None:
        return config_from(checkpoint.config, architecture.config, str(files.config))
    try:
        config = architecture.infer(checkpoint.state)
    except (KeyError, ValueError, IndexError) as error:
        reason = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise CheckpointError(
            f"{files.weights}: the network's config cannot be inferred from its tensors: {reason}. Expected all "
            f"tensors of {architecture.component.title}; put its config.json beside it in a folder, or download it "
            "again."
        ) from error
    check(config, str(files.weights))
    return config


def _check_size(config: AnyConfig, checkpoint: Checkpoint) -> None:
    """Raise CheckpointError if the config is of a far larger network, which would take long to build."""
    blocks, tensors = blocks_of(config), len(checkpoint.state)
    if blocks > min(tensors, _MOST_BLOCKS):
        raise CheckpointError(
            f"{checkpoint.files.config or checkpoint.files.weights} describes {blocks:,} blocks, and "
            f"{checkpoint.files.weights} has {tensors:,} tensors; expected one or more a block, and at most "
            f"{_MOST_BLOCKS:,} blocks. Choose a checkpoint and its own config.json, or download both again."
        )


def _check_keys(component: Component, network: nn.Module, checkpoint: Checkpoint) -> None:
    """Raise CheckpointError at the first key that is missing, unexpected, or of the wrong shape or dtype."""
    weights, state = checkpoint.files.weights, checkpoint.state
    expected: dict[str, Tensor] = network.state_dict()
    for key, tensor in expected.items():
        if key.endswith(".num_batches_tracked"):  # used in training only; some files lack it or store it as a float
            state[key] = state.get(key, torch.zeros(tensor.shape)).to(tensor.dtype)
    stage = component.title
    if checkpoint.files.config:
        stage += f" as {checkpoint.files.config} describes it"
    advice = "Choose a checkpoint of that network, or download it again."
    for key in sorted(expected.keys() | state.keys()):
        if key not in state:
            absent = len(expected.keys() - state.keys())
            raise CheckpointError(
                f"{weights}: {key!r} is one of {absent} missing; expected it with shape "
                f"{list(expected[key].shape)} for {stage}. {advice}"
            )
        if key not in expected:
            surplus = len(state.keys() - expected.keys())
            raise CheckpointError(
                f"{weights}: {key!r} with shape {list(state[key].shape)} is one of {surplus} unexpected. "
                f"{stage} has no such tensor. {advice}"
            )
        if state[key].shape != expected[key].shape:
            raise CheckpointError(
                f"{weights}: {key!r} has shape {list(state[key].shape)}; expected "
                f"{list(expected[key].shape)} for {stage}. {advice}"
            )
        if state[key].is_floating_point() != expected[key].is_floating_point():
            raise CheckpointError(
                f"{weights}: {key!r} is stored as {state[key].dtype}; expected {expected[key].dtype} or "
                "another floating-point dtype. Quantized checkpoints are not supported; choose one that is not."
            )


def stored_dtype(state: State) -> torch.dtype:
    """Return the dtype of most of the weights."""
    sizes: Counter[torch.dtype] = Counter()
    for tensor in state.values():
        sizes[tensor.dtype] += tensor.numel()
    return sizes.most_common(1)[0][0]
