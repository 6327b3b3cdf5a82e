# pyright: reportMissingImports=false
"""The host inside ComfyUI: its memory management, progress, previews, interruption and folders."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.model_management as management
import folder_paths
import torch
from comfy.cli_args import args
from comfy.model_patcher import ModelPatcher
from comfy.utils import ProgressBar
from PIL import Image
from torch import nn

from wuerstchen_core import StageA, StageB, StageC

from .. import models

FOLDER_KEY = "wuerstchen"
"""Of the model folders: `models/wuerstchen/`, and what extra_model_paths.yaml lists under this name."""
_COMPUTABLE = [torch.float16, torch.bfloat16, torch.float32]


class ComfyHost:
    """Runs nodes with what ComfyUI offers. A kept network is a `ModelPatcher`: ComfyUI decides when it is unloaded."""

    def __init__(self) -> None:
        folder_paths.add_model_folder_path(FOLDER_KEY, str(Path(folder_paths.models_dir) / FOLDER_KEY))

    def model_names(self) -> list[str]:
        return models.names_in(folder_paths.get_filename_list(FOLDER_KEY))

    def find_model(self, name: str) -> Path | None:
        return models.find_in(folder_paths.get_folder_paths(FOLDER_KEY), name)

    def device(self) -> torch.device:
        return management.get_torch_device()

    def dtype(self, stage: str) -> torch.dtype:
        if stage == "A":
            return management.vae_dtype(management.vae_device(), [torch.float16, torch.bfloat16])
        dtype = management.unet_dtype(self.device(), supported_dtypes=_COMPUTABLE)
        # A command line that asks for 8 or 64 bits cannot be followed: these networks compute in what they are kept in.
        return dtype if dtype in _COMPUTABLE else torch.float32

    def keep(self, network: nn.Module) -> ModelPatcher:
        load_device, offload_device = _devices(network)
        return ModelPatcher(network.to(offload_device), load_device=load_device, offload_device=offload_device)

    def network_of(self, kept: ModelPatcher) -> nn.Module:
        return kept.model

    @contextmanager
    def resident(self, kept: ModelPatcher, *, working_memory: int = 0) -> Iterator[nn.Module]:
        management.load_models_gpu([kept], memory_required=working_memory, force_full_load=True)
        network: nn.Module = kept.model
        if all(weight.device.type == kept.load_device.type for weight in network.parameters()):
            yield network
            return
        # --novram leaves weights where they are; these networks compute whole, so they move for this one call.
        network.to(kept.load_device)
        try:
            yield network
        finally:
            network.to(kept.offload_device)

    def progress(self, steps: int, label: str) -> Callable[[int, torch.Tensor | None], None]:
        bar = ProgressBar(steps)

        def update(done: int, preview: torch.Tensor | None) -> None:
            management.throw_exception_if_processing_interrupted()
            bar.update_absolute(done, steps, None if preview is None else _preview_image(preview))

        return update

    def output_folder(self) -> Path:
        return Path(folder_paths.get_output_directory())


def _devices(network: nn.Module) -> tuple[torch.device, torch.device]:
    """(where it computes, where it waits), by what ComfyUI's command line says for that kind of network."""
    if isinstance(network, (StageB, StageC)):
        return management.get_torch_device(), management.unet_offload_device()
    if isinstance(network, StageA):
        return management.vae_device(), management.vae_offload_device()
    return management.text_encoder_device(), management.text_encoder_offload_device()


def _preview_image(preview: torch.Tensor) -> tuple[str, Any, int]:
    pixels = preview.detach().clamp(0, 1).mul(255).round().to("cpu", torch.uint8)
    return "JPEG", Image.fromarray(pixels.numpy()), args.preview_size
