"""Checkpoints on disk: which files one consists of, in each layout.

Layouts: a diffusers pipeline folder, one component's folder, or one file (.safetensors, .pt, .bin). Reads no tensors,
and needs no torch.
"""

import json
from pathlib import Path

from ..errors import CheckpointError, WeightsMissingError

CONFIG_FILE = "config.json"
PREVIEW_FILE = "preview.json"
"""What the latents look like, for previews: `{"latent_rgb": [channels + 1 rows of 3 numbers]}`. May be absent."""
WEIGHTS_NAME = "diffusion_pytorch_model"
WEIGHT_KINDS = tuple(
    (f"{WEIGHTS_NAME}{variant}.{suffix}", f"{WEIGHTS_NAME}.{suffix}.index{variant}.json")
    for suffix in ("safetensors", "bin")
    for variant in ("", ".fp16", ".bf16")
)
"""Names that diffusers gives to weights, best first: one file, or the index of several (shards)."""
WEIGHT_FILES = tuple(name for kind in WEIGHT_KINDS for name in kind)


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


def files_of(source: Path, component: str) -> list[Path]:
    """Every file that reading the component takes, shards included. Raises as `find_weights` does."""
    weights = find_weights(source, component)
    parts = [weights, *shards_of(weights)] if ".index" in weights.suffixes else [weights]
    config = config_of(weights)
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


def config_of(weights: Path) -> Path | None:
    """The config.json beside weights. Beside a file under a name of its own it may be another's, and does not count."""
    config = weights.with_name(CONFIG_FILE)
    return config if weights.name in WEIGHT_FILES and config.is_file() else None


def read_json(path: Path) -> dict[str, object]:
    """The object in a JSON file.

    Raises:
        WeightsMissingError: there is no such file.
        CheckpointError: it is unreadable, not JSON, or not an object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsMissingError(f"{path} does not exist; expected a JSON file. Check the path.") from error
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}. Check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}). Download it again.") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}; expected a JSON object. Download it again.")
    return content


def _listing(folder: Path) -> str:
    try:
        names = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    except OSError as error:
        return f"that it cannot be listed ({error.strerror or error})"
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return shown or "nothing"
