"""Checkpoints on disk: which files one consists of, and its config and tensors under the published names.

Layouts: a diffusers pipeline folder, one component's folder, or one file (.safetensors, .pt, .bin) of either key style.
Knows files and key names; builds no network.
"""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from .errors import CheckpointError, WeightsMissingError
from .keys import canonical
from .tensorfiles import read_json, read_tensors

CONFIG_FILE = "config.json"
WEIGHTS_NAME = "diffusion_pytorch_model"
WEIGHT_KINDS = tuple(
    (f"{WEIGHTS_NAME}{variant}.{suffix}", f"{WEIGHTS_NAME}.{suffix}.index{variant}.json")
    for suffix in ("safetensors", "bin")
    for variant in ("", ".fp16", ".bf16")
)
"""Names that diffusers gives to weights, best first: one file, or the index of several (shards)."""
WEIGHT_FILES = tuple(name for kind in WEIGHT_KINDS for name in kind)


@dataclass(frozen=True)
class Checkpoint:
    """A network as it lies on disk.

    weights: the file that was read. config: what config.json states, None where there is none. config_file: that file.
    state: the tensors on the CPU, memory-mapped where the format allows, under the published key names.
    """

    weights: Path
    config: dict[str, object] | None
    config_file: Path | None
    state: dict[str, Tensor]


def find_weights(source: Path, component: str) -> Path:
    """The file that holds a component's weights.

    Args:
        source: a weights file, the component's folder, or a pipeline's folder that holds it.
        component: "prior", "decoder" or "vqgan".
    Raises:
        WeightsMissingError: there is none.
    """
    if not source.is_dir():
        if not source.exists():
            raise WeightsMissingError(
                f"{source} does not exist; expected a checkpoint's file or folder. Check the path."
            )
        return source
    for folder in (source / component, source):
        for name in WEIGHT_FILES:
            if (folder / name).is_file():
                return folder / name
    raise WeightsMissingError(
        f"{source} has no weights of the {component}: expected {WEIGHT_FILES[0]} in it or in {component}/, "
        f"found {_listing(source)}. Choose the folder of a {component}, or one weights file."
    )


def read_checkpoint(source: Path, component: str) -> Checkpoint:
    """Read a component from any layout.

    Args:
        source, component: as for `find_weights`.
    Raises:
        WeightsMissingError: a file that it consists of is not there.
        CheckpointError: a file is damaged, unsafe or something else.
    """
    weights = find_weights(source, component)
    config_file = _config_of(weights)
    config = read_json(config_file) if config_file else None
    if ".index" in weights.suffixes:
        state: dict[str, Tensor] = {}
        for shard in shards_of(weights):
            state.update(read_tensors(shard))
    else:
        state = read_tensors(weights)
    return Checkpoint(weights, config, config_file, canonical(state, str(weights)))


def files_of(source: Path, component: str) -> list[Path]:
    """Every file that `read_checkpoint` would read, shards included. Raises as `find_weights` does."""
    weights = find_weights(source, component)
    parts = [weights, *shards_of(weights)] if ".index" in weights.suffixes else [weights]
    config = _config_of(weights)
    return [config, *parts] if config else parts


def shards_of(index: Path) -> list[Path]:
    """The files that an index.json names, which lie beside it.

    Raises:
        CheckpointError: the index is damaged, or names a file elsewhere.
        WeightsMissingError: a shard is not there.
    """
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index} has no weight_map; expected an index of shards. Download it again.")
    names = sorted({str(name) for name in weight_map.values()})
    for name in names:
        if Path(name).name != name:
            raise CheckpointError(
                f"{index} names the shard {name!r}; expected a file beside it. Do not trust this index."
            )
        if not index.with_name(name).is_file():
            raise WeightsMissingError(f"{index} names the shard {name!r}, which is not there. Download the rest.")
    return [index.with_name(name) for name in names]


def _config_of(weights: Path) -> Path | None:
    """The config.json beside weights. Beside a file under a name of its own it may be another's, and does not count."""
    config = weights.with_name(CONFIG_FILE)
    return config if weights.name in WEIGHT_FILES and config.is_file() else None


def _listing(folder: Path) -> str:
    try:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    except OSError as error:
        return f"that it cannot be listed ({error.strerror or error})"
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return shown or "nothing"
