"""Checkpoints read from disk: a config and tensors under the published names, whatever layout they lie in.

Knows files and key names of either style; builds no network.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError
from .keys import canonical
from .layouts import PREVIEW_FILE, config_of, find_weights, read_json, shards_of
from .tensorfiles import read_tensors


@dataclass(frozen=True)
class Checkpoint:
    """A network as it lies on disk.

    weights: the file that was read. config: what config.json states, None where there is none. config_file: that file.
    latent_rgb: [channels + 1, 3], what PREVIEW_FILE states, None where there is none.
    state: the tensors on the CPU, memory-mapped where the format allows, under the published key names.
    """

    weights: Path
    config: dict[str, object] | None
    config_file: Path | None
    latent_rgb: Tensor | None
    state: dict[str, Tensor]


def read_checkpoint(source: Path, component: str) -> Checkpoint:
    """Read a component from any layout.

    Args:
        source, component: as for `find_weights`.
    Raises:
        WeightsMissingError: a file that it consists of is not there.
        CheckpointError: a file is damaged, unsafe or something else.
    """
    weights = find_weights(source, component)
    config_file = config_of(weights)
    config = read_json(config_file) if config_file else None
    latent_rgb = _read_preview(weights.with_name(PREVIEW_FILE)) if config_file else None
    if ".index" in weights.suffixes:
        state: dict[str, Tensor] = {}
        for shard in shards_of(weights):
            state.update(read_tensors(shard))
    else:
        state = read_tensors(weights)
    return Checkpoint(weights, config, config_file, latent_rgb, canonical(state, str(weights)))


def _read_preview(path: Path) -> Tensor | None:
    if not path.is_file():
        return None
    rows = read_json(path).get("latent_rgb")
    try:
        table = torch.tensor(rows, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError):
        table = torch.empty(0)
    if table.ndim != 2 or table.shape[1] != 3 or not bool(torch.isfinite(table).all()):
        raise CheckpointError(
            f"{path}: latent_rgb is no table of numbers with three columns. It serves previews only; delete the file."
        )
    return table
