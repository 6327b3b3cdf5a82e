"""Find the files of a LoRA. Needs no torch."""

import os
from pathlib import Path

from ..errors import WeightsMissingError
from .layouts import check_file, existing

LORA_FILES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors", "lora.safetensors")
"""Names that diffusers, peft and this project's training give to a LoRA in a folder, best first."""
ADAPTER_CONFIG = "adapter_config.json"
"""Settings that peft writes beside a LoRA."""
SHIPPED = Path(__file__).parents[1] / "cocktail" / "loras"
"""Folder of the LoRAs that come with the package."""


def shipped_loras() -> list[str]:
    """List the names of the LoRAs that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def locate_lora(source: str | Path) -> Path:
    """Return the weights file of a LoRA.

    Args:
        source: A file, a folder with one of LORA_FILES, or the name of a LoRA that comes with the package.
    Raises:
        WeightsMissingError: There is no such file.
        CheckpointError: It is a pipe or a device.
    """
    path = existing(source)
    if path is not None and os.path.isdir(path):
        file = next((path / name for name in LORA_FILES if os.path.isfile(path / name)), None)
        if file is None:
            raise WeightsMissingError(f"{path} holds no LoRA; expected {' or '.join(LORA_FILES)} in it.")
        return file
    if path is not None:
        check_file(path)
        return path
    if str(source) in shipped_loras():
        return SHIPPED / f"{source}.safetensors"
    raise WeightsMissingError(
        f"{str(source)[:300]!r} does not exist; expected a LoRA file, its folder, or one of "
        f"{', '.join(shipped_loras())}. Check the path."
    )


def lora_files(source: str | Path) -> list[Path]:
    """List every file that loading a LoRA reads. Arguments and errors as for `locate_lora`."""
    path = locate_lora(source)
    return [each for each in (path, path.with_name(ADAPTER_CONFIG)) if os.path.isfile(each)]
